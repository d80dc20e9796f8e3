package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/test/machine"
)

// TestProcessesOfAUserDoNotHoldRoots: as many as a user may have execute a marked binary at the same moment. Root's exec of
// it waits hardly longer than one that nobody holds, and the heartbeat shows what waits before it is read.
func TestProcessesOfAUserDoNotHoldRoots(t *testing.T) {
	const atMost = 300 * time.Millisecond
	count := machine.Volume(400, 2000)
	h := newHostileNode(t)
	a := h.startAgent()
	gate := filepath.Join(h.dir, "theirs", "gate")
	if err := errors.Join(unix.Mkfifo(gate, 0o666), os.Chown(gate, anybody, anybody)); err != nil {
		t.Fatal(err)
	}
	// Each opens the FIFO, which waits for who writes to it.
	script := `i=0; pids=
		while [ $i -lt $1 ]; do (exec <"$2"; exec "$0" start x) & pids="$pids $!"; i=$((i+1)); done
		bad=0; for pid in $pids; do wait $pid; [ $? = 99 ] || bad=1; done
		exit $bad`
	crowd := attackers[0].command("/bin/sh", "-c", script, h.marked, fmt.Sprint(count), gate)
	if err := crowd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = crowd.Process.Kill() }()
	a.eventually("crowded", func() error {
		if got := len(children(crowd.Process.Pid)); got < count {
			return fmt.Errorf("%d processes wait", got)
		}
		return nil
	})

	// Several of each, for one that happens to run between two others of the crowd says nothing.
	var held, free []func() []time.Duration
	for range 4 {
		held, free = append(held, h.execsBeside(h.marked)), append(free, h.execsBeside(h.unmarked))
	}
	opened, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	timer := time.AfterFunc(limitOf(count), func() { _ = crowd.Process.Kill() })
	defer timer.Stop()
	if err := crowd.Wait(); err != nil {
		t.Errorf("an exec of the user's did not run: %v", err)
	}
	marked, unmarked := ended(held), ended(free)
	allowed := min(max(2*unmarked[0], atMost), gateStopped)
	h.row(fmt.Sprintf("%d execs of a user at once", count), marked, allowed, unmarked[0])
	if marked[0] > allowed {
		t.Errorf("root's exec took %v, more than %v; one that nobody holds took %v", marked[0], allowed, unmarked[0])
	}
	a.checkUsers(count)

	// What waits before it is read is in no other figure. It is stopped between two heartbeats, of which there are two a
	// second: the next one is due soon, and the watchdog, which has two seconds from the last, far.
	before, pid := a.slowHeartbeats(), a.gate()
	beats := a.metric("containerhook_heartbeat_seconds_count")
	a.eventually("with another heartbeat", func() error {
		if a.metric("containerhook_heartbeat_seconds_count") == beats {
			return errors.New("there was none")
		}
		return nil
	})
	<-time.After(200 * time.Millisecond)
	h.hold("the gate under SIGSTOP for a second", gateStopped, while(send(t, pid, syscall.SIGSTOP), time.Second, send(t, pid, syscall.SIGCONT)))
	a.eventually("showing that the queue waited", func() error {
		if got := a.slowHeartbeats(); got <= before {
			return fmt.Errorf("%v heartbeats took more than half a second, as before", got)
		}
		return nil
	})
}

// ended ends what execsBeside has begun, and returns the times of all, the longest first.
func ended(all []func() []time.Duration) (times []time.Duration) {
	for _, end := range all {
		times = append(times, end()...)
	}
	slices.Sort(times)
	slices.Reverse(times)
	return times
}

// slowHeartbeats is how many took more than half a second.
func (a *agent) slowHeartbeats() float64 {
	a.t.Helper()
	var scraped bytes.Buffer
	if err := get("http://"+a.scrape+"/metrics", &scraped); err != nil {
		a.t.Fatal(err)
	}
	all, err := sumOf(scraped.String(), "containerhook_heartbeat_seconds_count")
	fast, fastErr := sumOf(scraped.String(), `containerhook_heartbeat_seconds_bucket{le="0.5"}`)
	if err := errors.Join(err, fastErr); err != nil {
		a.t.Fatal(err)
	}
	return all - fast
}

// execsBeside has a shell execute the probe again and again, and measure how long each takes. The returned function ends that,
// and returns the times, the longest first. Go's own forks wait for each other's execs.
func (n *node) execsBeside(probe string) (end func() []time.Duration) {
	n.t.Helper()
	const script = `while [ -e "$1" ]; do began=$EPOCHREALTIME; "$0" start nothing; code=$?; echo "${began/./} ${EPOCHREALTIME/./} $code"; done`
	goesOn := filepath.Join(n.dir, fmt.Sprintf("goes-on-%d", made.Add(1)))
	if err := os.WriteFile(goesOn, nil, 0o644); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", script, probe, goesOn)
	var said bytes.Buffer
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	return func() (times []time.Duration) {
		n.t.Helper()
		if err := errors.Join(os.Remove(goesOn), cmd.Wait()); err != nil {
			n.t.Fatal(err)
		}
		for line := range strings.Lines(said.String()) {
			var began, ended int64
			var code int
			if _, err := fmt.Sscan(line, &began, &ended, &code); err != nil || code != refused {
				n.t.Fatalf("the probe did not run: %q: %v", line, err)
			}
			times = append(times, time.Duration(ended-began)*time.Microsecond)
		}
		slices.Sort(times)
		slices.Reverse(times)
		return times
	}
}

// TestConnectionsThatStayKeepNoProbeOut: strangers open connections to both ports, say nothing or a byte now and then, and
// come again when they are closed. Probes and scrapes are answered, and the worker lives.
func TestConnectionsThatStayKeepNoProbeOut(t *testing.T) {
	count := machine.Volume(200, 1000) // idle, and as many slow, to each port
	lasts := time.Duration(machine.Volume(10, 120)) * time.Second
	n := newNode(t)
	n.files = 700 // fewer than there are connections
	a := n.startAgent()
	worker := a.worker()
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var opened, open atomic.Int64
	for _, address := range []string{a.health, a.scrape} {
		for i := range 2 * count {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%20))}} // no probe's own address
			all.Go(func() {
				for ctx.Err() == nil {
					if conn, err := dialer.DialContext(ctx, "tcp", address); err == nil {
						opened.Add(1)
						open.Add(1)
						linger(ctx, conn, i%2 == 0)
						open.Add(-1)
					}
					select {
					case <-ctx.Done():
					case <-time.After(time.Second):
					}
				}
			})
		}
	}
	a.eventually("crowded", func() error {
		if got := opened.Load(); got < int64(4*count) {
			return fmt.Errorf("%d connections were opened", got)
		}
		return nil
	})

	asked, longest, most := 0, time.Duration(0), int64(0)
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		for _, url := range []string{"http://" + a.health + "/readyz", "http://" + a.health + "/healthz", "http://" + a.scrape + "/metrics"} {
			began := time.Now()
			if err := get(url, nil); err != nil { // within 2 s
				t.Error(err)
			}
			longest = max(longest, time.Since(began))
			asked++
		}
		most = max(most, open.Load())
		<-time.After(100 * time.Millisecond)
	}
	if got := a.worker(); got != worker {
		t.Errorf("worker %d was replaced by %d", worker, got)
	}
	t.Logf("%d connections, %d at once at most; %d probes and scrapes took %v at most", opened.Load(), most, asked, longest.Round(time.Millisecond))
}

// linger keeps a connection until it is closed, or ctx ends.
func linger(ctx context.Context, conn net.Conn, idle bool) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if idle {
		_, _ = conn.Read(make([]byte, 1)) // nothing comes
		return
	}
	const request = "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "
	for i := 0; ; i++ {
		said := byte('x')
		if i < len(request) {
			said = request[i]
		}
		if _, err := conn.Write([]byte{said}); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// TestABusyNodeEndsNoWorker: the agent has what the chart requests for it, and others use all that there is. Where the
// node grants its gate realtime each of its heartbeats comes back at once, whatever the execs, which have no realtime, wait
// for; where it refuses, it waits for its turn.
func TestABusyNodeEndsNoWorker(t *testing.T) {
	for _, realtime := range []bool{true, false} {
		t.Run(map[bool]string{true: "realtime", false: "no realtime"}[realtime], func(t *testing.T) { busyNode(t, realtime) })
	}
}

func busyNode(t *testing.T, realtime bool) {
	const hogs = 8
	lasts := time.Duration(machine.Volume(8, 300)) * time.Second
	n := newNode(t)
	// What else the machine does is not the node's: that has most of it. The groups are removed after the agent.
	node := newCPUGroup(t, cpuGroup(cpuRoot()), testCgroup()+"-node", 64<<10)
	pod, others := newCPUGroup(t, node, "pod", requested(t)), newCPUGroup(t, node, "others", 1024)
	a := n.startAgent()
	gate, worker := a.gate(), a.worker()
	if got := policies(t, gate); !slices.Equal(got, []string{"SCHED_RR"}) {
		t.Fatalf("the gate's threads have the policies %v", got)
	}
	if got := policies(t, worker); !slices.Equal(got, []string{"SCHED_OTHER"}) {
		t.Errorf("the worker's threads have the policies %v", got)
	}
	allowed := gateStopped
	if realtime {
		node.grantRealtime(t)
		pod.grantRealtime(t)
	} else if out, err := exec.Command("chrt", "--all-tasks", "--other", "--pid", "0", strconv.Itoa(gate)).CombinedOutput(); err != nil {
		t.Fatalf("take realtime away: %v: %s", err, out)
	}
	pod.add(t, a.cmd.Process.Pid, gate, worker)
	for range hogs {
		hog := exec.Command("sh", "-c", "while :; do :; done")
		if err := machine.Start(hog); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hog.Process.Kill(); _ = hog.Wait() })
		others.add(t, hog.Process.Pid)
	}

	held, free := n.execTimes(func() { <-time.After(lasts) })
	what := fmt.Sprintf("%d processes that use all of the CPU", hogs)
	if !realtime {
		what += ", no realtime granted"
	}
	n.row(what, held, allowed, free)
	if allowed += min(3*free, machineAtMost); held[0] > allowed {
		t.Errorf("held for %v, more than %v", held[0], allowed)
	}
	a.eventually("ready", func() error { return a.probe("/readyz") })
	if a.gate() != gate || a.worker() != worker {
		t.Errorf("gate %d, worker %d became %d and %d", gate, worker, a.gate(), a.worker())
	}
	slow := a.slowHeartbeats()
	if realtime && slow > 0 {
		t.Errorf("%v of the gate's own events took more than half a second", slow)
	}
	t.Logf("%v execs were allowed at the deadline, %v at once; %v heartbeats took more than half a second, of %v", a.metric(lateExecs),
		a.metric(unseenExecs), slow, a.metric("containerhook_heartbeat_seconds_count"))
	a.checkSeesAgain(n)
}

// policies are the scheduling policies of a process's threads, each once.
func policies(t *testing.T, pid int) []string {
	t.Helper()
	out, err := exec.Command("chrt", "--all-tasks", "--pid", strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		t.Fatalf("chrt: %v: %s", err, out)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if _, policy, found := strings.Cut(line, "current scheduling policy: "); found {
			all = append(all, strings.TrimSpace(policy))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// requested are the shares that a container gets for the CPU request of the chart's agent.
func requested(t *testing.T) (shares int) {
	t.Helper()
	values, err := os.ReadFile("../../charts/containerhook/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct {
		Agent struct {
			Resources struct{ Requests struct{ CPU string } }
		}
	}
	if err := yaml.Unmarshal(values, &chart); err != nil {
		t.Fatal(err)
	}
	cpu, err := resource.ParseQuantity(chart.Agent.Resources.Requests.CPU)
	if err != nil {
		t.Fatalf("the chart requests %q of CPU: %v", chart.Agent.Resources.Requests.CPU, err)
	}
	return int(cpu.MilliValue() * 1024 / 1000)
}

// cpuGroup is a cgroup of the CPU controller, v1 or v2.
type cpuGroup string

func cpuRoot() string {
	if v1 := "/sys/fs/cgroup/cpu"; exists(v1) {
		return v1
	}
	return "/sys/fs/cgroup"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newCPUGroup(t *testing.T, parent cpuGroup, name string, shares int) cpuGroup {
	t.Helper()
	dir := filepath.Join(string(parent), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := poll(limit, func() error { return unix.Rmdir(dir) }); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	files := map[string]string{"cpu.shares": strconv.Itoa(shares)}
	if !exists(filepath.Join(dir, "cpu.shares")) {
		// As a kubelet converts it.
		files = map[string]string{"cpu.weight": strconv.Itoa(1 + (shares-2)*9999/262142), "../cgroup.subtree_control": "+cpu"}
	}
	for file, value := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cpuGroup(dir)
}

// grantRealtime gives the group some time of realtime threads, where groups need it for that (CONFIG_RT_GROUP_SCHED, v1).
func (g cpuGroup) grantRealtime(t *testing.T) {
	t.Helper()
	file := filepath.Join(string(g), "cpu.rt_runtime_us")
	if !exists(file) {
		return
	}
	if err := os.WriteFile(file, []byte("100000"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (g cpuGroup) add(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(string(g), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			t.Error(err)
		}
	}
}
