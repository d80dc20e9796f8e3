package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
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
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

const (
	health = "127.0.0.1:8081"
	// patience is how long anything may take on a processor that is emulated, on a machine that is busy.
	patience = 180 * time.Second
	// deadline of the hook is as long as may be: an emulated processor is slow, and only a busy one needs it.
	deadline = 1500 * time.Millisecond
)

// agent is the real one, running, and all that it printed.
type agent struct {
	cmd  *exec.Cmd
	read chan struct{} // closed when it prints no more

	mu   sync.Mutex
	told map[string][]v1alpha1.NodeContainer // by container ID, in order
	want map[string]bool                     // container IDs that a check has waited for
	bad  []error                             // what it printed that is no NodeContainer
	log  bytes.Buffer
}

// startAgent starts the agent in a pod, with both runtimes and the probe marked, and env added to its environment.
func startAgent(env ...string) (*agent, error) {
	a := &agent{told: map[string][]v1alpha1.NodeContainer{}, want: map[string]bool{}, read: make(chan struct{})}
	a.cmd = inPod("/agent", "--standalone", "-o", "json", "--host-root", hostDir, "--node-name", "guest",
		"--default-runtimes=false", "--runtime-path", runc+","+crun+","+marked, "--state-root", stateRoot, "--deadline", deadline.String(),
		"--health-bind-address", health, "--metrics-bind-address", "0")
	a.cmd.Env = append(os.Environ(), env...)
	a.cmd.Stderr = (*agentLog)(a)
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go a.listen(stdout)
	return a, eventually(ready)
}

// listen keeps what the agent prints.
func (a *agent) listen(stdout io.Reader) {
	defer close(a.read)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c v1alpha1.NodeContainer
		strict := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		strict.DisallowUnknownFields()
		err := strict.Decode(&c)
		a.mu.Lock()
		if err != nil {
			a.bad = append(a.bad, fmt.Errorf("read %q: %w", lines.Text(), err))
		}
		a.told[c.Spec.ContainerID] = append(a.told[c.Spec.ContainerID], c)
		a.mu.Unlock()
	}

	if err := lines.Err(); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.bad = append(a.bad, fmt.Errorf("read what the agent prints: %w", err))
	}
}

// stop ends the agent as a user does.
func (a *agent) stop() error {
	kill := time.AfterFunc(patience, func() { _ = a.cmd.Process.Kill() })
	defer kill.Stop()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-a.read
	return errors.Join(append(a.bad, a.cmd.Wait())...)
}

// wait returns what was told of a container until it was in state.
func (a *agent) wait(id string, state v1alpha1.ContainerState) (told []v1alpha1.NodeContainer, err error) {
	err = eventually(func() error {
		told = a.history(id)
		for _, c := range told {
			if c.Status.State == state {
				return nil
			}
		}
		return fmt.Errorf("not told as %s, but as %q", state, transitions(told))
	})
	return told, err
}

// history returns what was published of a container so far; its ID is one that a check knows from now on.
func (a *agent) history(id string) []v1alpha1.NodeContainer {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want[id] = true
	return slices.Clone(a.told[id])
}

// strangers says which containers were published that no check has made.
func (a *agent) strangers() error {
	a.mu.Lock()
	defer a.mu.Unlock()

	var ids []string
	for id := range a.told {
		if !a.want[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		return fmt.Errorf("unknown containers: %q", ids)
	}
	return nil
}

// said is the agent's log.
func (a *agent) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// gate is the pid of the agent's gate: the child of the pod's first process.
func (a *agent) gate() (int, error) { return child(a.cmd.Process.Pid) }

// worker is the pid of the agent's worker: the child of its gate.
func (a *agent) worker() (int, error) {
	gate, err := a.gate()
	if err != nil {
		return 0, err
	}
	return child(gate)
}

// child is the pid of the one child of a process, which any of its threads may have made.
func child(pid int) (int, error) {
	var children []byte
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, thread := range threads {
		some, err := os.ReadFile(thread)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // a thread that has ended has none
			return 0, err
		}
		children = append(children, some...)
	}
	return strconv.Atoi(strings.TrimSpace(string(children)))
}

// agentLog is the agent's standard error.
type agentLog agent

func (l *agentLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func ready() error {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get("http://" + health + "/readyz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent is not ready: %s", answer.Status)
	}
	return nil
}

// eventually asks until there is no error, or the patience is over; then the last error is the answer.
func eventually(ask func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if err := ask(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
