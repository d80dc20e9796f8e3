package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

const hostDir = machine.HostDir

// agent is the real one, running, and all that it printed.
type agent struct {
	t      *testing.T
	cmd    *exec.Cmd
	health string
	scrape string
	pause  chan bool // true: stop reading what it prints

	mu      sync.Mutex
	changed *sync.Cond
	told    map[string][]v1alpha1.NodeContainer // by container ID, in order
	stderr  bytes.Buffer
	ended   bool
}

// startAgent starts the agent with the node's runtimes marked, and waits until it is ready.
func (n *node) startAgent(args ...string) *agent {
	n.t.Helper()
	a := &agent{t: n.t, told: map[string][]v1alpha1.NodeContainer{}, pause: make(chan bool, 1),
		health: machine.FreeAddress(n.t), scrape: machine.FreeAddress(n.t)}
	a.changed = sync.NewCond(&a.mu)
	a.cmd = machine.InPod(agentBinary, append([]string{"--standalone", "-o", "json", "--host-root", hostDir, "--default-runtimes=false",
		"--runtime-path", strings.Join([]string{n.runc, n.crun, n.conmon, n.marked}, ","), "--state-root", n.stateRoot, "-v", "1",
		"--health-bind-address", a.health, "--metrics-bind-address", a.scrape}, args...)...)
	a.cmd.Stderr = (*lockedBuffer)(a)
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if n.files > 0 {
		machine.LimitFiles(a.cmd, n.files)
	}
	if err := machine.Start(a.cmd); err != nil {
		n.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); a.read(stdout) }()
	n.t.Cleanup(func() { a.stop(read) })
	a.eventually("ready", func() error { return a.probe("/readyz") })
	return a
}

// read keeps what the agent prints.
func (a *agent) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		select {
		case <-a.pause:
			<-a.pause // until the test says otherwise
		default:
		}
		var c v1alpha1.NodeContainer
		strict := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&c); err != nil {
			a.t.Errorf("the agent printed %q: %v", lines.Text(), err)
			continue
		}
		a.mu.Lock()
		a.told[c.Spec.ContainerID] = append(a.told[c.Spec.ContainerID], c)
		a.changed.Broadcast()
		a.mu.Unlock()
	}
}

// stop ends the agent as a user does, and fails where it does not end well.
func (a *agent) stop(read <-chan struct{}) {
	a.mu.Lock()
	ended := a.ended
	a.ended = true
	a.mu.Unlock()
	if ended {
		return
	}
	if a.t.Failed() {
		a.mu.Lock()
		a.t.Logf("the end of the agent's log:\n%s", lastOf(a.stderr.String()))
		a.mu.Unlock()
	}
	_ = a.cmd.Process.Signal(syscall.SIGINT)
	timer := time.AfterFunc(10*time.Second, func() { _ = a.cmd.Process.Kill() })
	<-read
	if err := a.cmd.Wait(); err != nil {
		a.t.Errorf("the agent ended with %v\n%s", err, lastOf(a.stderr.String()))
	}
	timer.Stop()
}

// wait returns what was told of a container once it is in state.
func (a *agent) wait(id string, state v1alpha1.ContainerState) v1alpha1.NodeContainer {
	a.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	wake := time.AfterFunc(time.Until(deadline), a.changed.Broadcast)
	defer wake.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for _, c := range a.told[id] {
			if c.Status.State == state {
				return c
			}
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("container %s was not told as %s; told: %s", id, state, states(a.told[id]))
		}
		a.changed.Wait()
	}
}

// history is everything that was told of a container so far.
func (a *agent) history(id string) []v1alpha1.NodeContainer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]v1alpha1.NodeContainer(nil), a.told[id]...)
}

func states(told []v1alpha1.NodeContainer) string {
	var s []string
	for _, c := range told {
		s = append(s, string(c.Status.State))
	}
	return strings.Join(s, " → ")
}

// probe asks one of the agent's health endpoints.
func (a *agent) probe(path string) error {
	return get("http://"+a.health+path, nil)
}

// metric returns the sum of the samples of a metric whose line begins with prefix.
func (a *agent) metric(prefix string) float64 {
	a.t.Helper()
	sum, err := a.tryMetric(prefix)
	if err != nil {
		a.t.Fatal(err)
	}
	return sum
}

// tryMetric is metric where the worker may have ended.
func (a *agent) tryMetric(prefix string) (sum float64, err error) {
	var body bytes.Buffer
	if err := get("http://"+a.scrape+"/metrics", &body); err != nil {
		return 0, err
	}
	return sumOf(body.String(), prefix)
}

// sumOf is metric of what was scraped.
func sumOf(scraped, prefix string) (sum float64, err error) {
	for line := range strings.Lines(scraped) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(line, prefix) {
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return sum, nil
}

func get(url string, body io.Writer) error {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	defer client.CloseIdleConnections()
	said, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, said)
	}
	if body != nil {
		_, err = body.Write(said)
	}
	return err
}

// eventually polls until check says nothing.
func (a *agent) eventually(what string, check func() error) {
	a.t.Helper()
	if err := poll(20*time.Second, check); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.t.Fatalf("never %s: %v\n%s", what, err, lastOf(a.stderr.String()))
	}
}

// poll tries check until it says nothing or the time is over, and returns what it said last.
func poll(limit time.Duration, check func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		err := check()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// gate is the host's pid of the agent's gate: the one child of the pod's first process.
func (a *agent) gate() (pid int) {
	a.t.Helper()
	a.eventually("with a gate", func() error {
		all := children(a.cmd.Process.Pid)
		if len(all) != 1 {
			return fmt.Errorf("the first process has the children %v", all)
		}
		pid = all[0]
		return nil
	})
	return pid
}

// worker is the host's pid of the agent's worker: the last child of its gate, for one that cannot be ended stays.
func (a *agent) worker() (pid int) {
	a.t.Helper()
	gate := a.gate()
	a.eventually("with a worker", func() error {
		all := children(gate)
		if len(all) == 0 || exiting(all[len(all)-1]) {
			return fmt.Errorf("the gate has the children %v, the last of which is not alive", all)
		}
		pid = all[len(all)-1]
		return nil
	})
	return pid
}

// children are the pids of a process's children, the oldest first.
func children(pid int) (all []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each has its own
	for _, thread := range threads {
		some, _ := os.ReadFile(thread)
		for word := range strings.FieldsSeq(string(some)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
			}
		}
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Compare(started(a), started(b)) })
	return all
}

// exiting reports whether a process has ended, or its first thread has: others of it may still be in the kernel.
func exiting(pid int) bool {
	fields := stat(pid)
	return len(fields) == 0 || fields[0] == "Z" || fields[0] == "X"
}

// started is when a process began, in clock ticks since boot.
func started(pid int) int {
	ticks := 0
	if fields := stat(pid); len(fields) > 19 {
		ticks, _ = strconv.Atoi(fields[19]) // the kernel's own number
	}
	return ticks
}

// stat is what follows the name in a process's stat (proc(5)): its state, and so on.
func stat(pid int) []string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
	_, rest, _ := strings.Cut(string(raw), ") ")
	return strings.Fields(rest)
}

// lockedBuffer is an agent's standard error.
type lockedBuffer agent

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stderr.Write(p)
}

// lastOf is as much of a log as anybody reads.
func lastOf(log string) string { return log[max(0, len(log)-4000):] }
