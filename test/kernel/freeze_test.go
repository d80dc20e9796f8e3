package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// What a hold may last at most, from docs/security-model.md. The exec itself and a busy machine are allowed for.
const (
	deadline       = 200 * time.Millisecond
	workerLives    = deadline + 100*time.Millisecond
	workerKilled   = 500 * time.Millisecond
	supervisorOnly = 2500 * time.Millisecond
)

// machineAtMost is what a busy machine may add to a hold, however long an exec takes that nobody holds.
const machineAtMost = 500 * time.Millisecond

// hold executes the marked probe while during runs, and fails where one took longer than limit.
func (n *node) hold(what string, limit time.Duration, during func()) {
	n.t.Helper()
	held, free := n.execTimes(during)
	n.t.Logf("longest hold with %s: %v (limit %v); the machine itself: %v", what, held[0].Round(time.Millisecond),
		limit, free.Round(time.Millisecond))
	if allowed := limit + min(3*free, machineAtMost); held[0] > allowed {
		n.t.Errorf("held for %v, more than %v; the machine itself took %v", held[0], allowed, free)
	}
}

// holdInFlood is hold where the agent has to work for many at once, so that a processor may not be free when a deadline
// passes: three of four keep to the limit, and each to what the kernel's timer allows.
func (n *node) holdInFlood(what string, during func()) {
	n.t.Helper()
	held, free := n.execTimes(during)
	most := held[len(held)/4]
	n.t.Logf("holds with %s: %v at most (limit %v), three of four %v (limit %v), of %d; the machine itself: %v", what,
		held[0].Round(time.Millisecond), supervisorOnly, most.Round(time.Millisecond), workerLives, len(held), free.Round(time.Millisecond))

	machine := min(3*free, machineAtMost)
	if held[0] > supervisorOnly+machine {
		n.t.Errorf("held for %v, more than %v; the machine itself took %v", held[0], supervisorOnly+machine, free)
	}
	if most > workerLives+machine {
		n.t.Errorf("one of four was held for %v, more than %v; the machine itself took %v", most, workerLives+machine, free)
	}
}

// execTimes executes the marked probe again and again while during runs, and once more after it, and returns how long each
// took, the longest first. Each claims to be a runtime at start, which is what waits for the handler. In turn with it an
// unmarked copy is executed, which nobody holds: the longest time that one took is the machine's, as is what a timer was late
// meanwhile, for most of the time is that of the holds. It is to be allowed for three times, up to machineAtMost, for the
// machine has to come to the agent and back, too.
func (n *node) execTimes(during func()) (held []time.Duration, free time.Duration) {
	n.t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); during() }()
	defer func() { <-ended }() // it may report to the test, whatever ends this
	late := lateness(ended)
	for last := false; !last; {
		select {
		case <-ended:
			last = true
		default:
		}
		held = append(held, n.execTime(n.marked))
		free = max(free, n.execTime(n.unmarked))
	}
	slices.Sort(held)
	slices.Reverse(held)
	return held, max(free, <-late)
}

// lateness sends the longest time that a timer was late, once something has ended.
func lateness(ended <-chan struct{}) <-chan time.Duration {
	const every = 5 * time.Millisecond
	longest := make(chan time.Duration, 1)
	go func() {
		most := time.Duration(0)
		for {
			began := time.Now()
			select {
			case <-ended:
				longest <- most
				return
			case <-time.After(every):
				most = max(most, time.Since(began)-every)
			}
		}
	}()
	return longest
}

// execTime is how long one exec of the probe takes, from fork to exit.
func (n *node) execTime(probe string) time.Duration {
	n.t.Helper()
	began := time.Now()
	cmd := exec.Command(probe, "start", "nothing")
	out, err := bounded(limit, cmd)
	took := time.Since(began)
	switch {
	case n.mayDeny > 0 && probe == n.marked && errors.Is(err, unix.EPERM):
		n.mayDeny--
		n.t.Log("an exec was denied")
	case cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != refused: // it knows no start
		n.t.Fatalf("the probe did not run: %v: %s", err, out)
	}
	return took
}

// checkSeesAgain has a container made, and waits until the agent tells its life by the hook.
func (a *agent) checkSeesAgain(n *node) {
	n.t.Helper()
	a.eventually("ready again", func() error { return a.probe("/readyz") })
	id, bundle := n.bundle([]string{"exit", "7"}, nil)
	if code, out := n.do(n.runc, "run", "--bundle", bundle, id); code != 7 {
		n.t.Fatalf("runc run: exit code %d: %s", code, out)
	}
	if c := a.wait(id, v1alpha1.StateStopped); c.Status.ExitCode == nil || *c.Status.ExitCode != 7 {
		n.t.Errorf("afterwards a container was reported with exit code %s, not 7", exitOf(c))
	}
}

// while does something to the agent for a time, and undoes it.
func while(do func(), d time.Duration, undo func()) func() {
	return func() {
		do()
		<-time.After(d)
		undo()
	}
}

func send(t *testing.T, pid int, s syscall.Signal) func() {
	return func() {
		if err := syscall.Kill(pid, s); err != nil {
			t.Errorf("send %v to %d: %v", s, pid, err)
		}
	}
}

func nothing() {}

func TestAHandlerThatHangsHoldsNothingBeyondTheDeadline(t *testing.T) {
	n := newNode(t)
	told := filepath.Join(n.dir, "told")
	n.startHandler("sleep", told)
	id, bundle := n.bundle([]string{"exit", "0"}, nil)
	n.remove(n.runc, id)
	n.must(n.runc, "create", "--bundle", bundle, id)
	if err := poll(5*time.Second, func() error { _, err := os.Stat(filepath.Join(told, "asleep")); return err }); err != nil {
		t.Fatalf("the handler was not called: %v", err)
	}
	started := time.Duration(0)
	n.hold("a handler that sleeps for 3 s", workerLives, func() {
		began := time.Now()
		n.script(`$0 start "$1"`, id)
		started = time.Since(began)
	})
	if started < deadline {
		t.Errorf("runc start took %v: the handler that hangs did not hold it", started)
	}
	t.Logf("runc start took %v meanwhile", started.Round(time.Millisecond))
}

func TestAStoppedOrKilledAgentHoldsNothingForLong(t *testing.T) {
	n := newNode(t)
	for _, test := range []struct {
		what  string
		limit time.Duration
		fault func(a *agent) func()
	}{
		{"the worker under SIGSTOP", supervisorOnly, func(a *agent) func() {
			return while(send(a.t, a.worker(), syscall.SIGSTOP), 3*time.Second, nothing)
		}},
		{"the worker under SIGKILL", workerKilled, func(a *agent) func() {
			return while(send(a.t, a.worker(), syscall.SIGKILL), time.Second, nothing)
		}},
		{"the worker under SIGABRT, as in a panic", workerKilled, func(a *agent) func() {
			return while(send(a.t, a.worker(), syscall.SIGABRT), time.Second, nothing)
		}},
		{"the supervisor under SIGSTOP", workerLives, func(a *agent) func() {
			pid := a.cmd.Process.Pid
			return while(send(a.t, pid, syscall.SIGSTOP), 3*time.Second, send(a.t, pid, syscall.SIGCONT))
		}},
		{"worker and supervisor under SIGSTOP", supervisorOnly, func(a *agent) func() {
			worker, pid := a.worker(), a.cmd.Process.Pid
			return while(func() { send(a.t, pid, syscall.SIGSTOP)(); send(a.t, worker, syscall.SIGSTOP)() }, 3*time.Second,
				send(a.t, pid, syscall.SIGCONT))
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			n := *n
			n.t = t // so that its agent ends with it
			a := n.startAgent()
			n.hold(test.what, test.limit, test.fault(a))
			a.checkSeesAgain(&n)
		})
	}
}

func TestAKilledSupervisorTakesItsWorkerWithIt(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	worker := a.worker()
	n.hold("the supervisor under SIGKILL", workerKilled, while(a.kill, time.Second, nothing))
	if err := poll(5*time.Second, func() error {
		if err := syscall.Kill(worker, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("the worker is still there: %w", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// kill ends the agent at once.
func (a *agent) kill() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// TestEveryExecThatQueuesBehindAStoppedAgentRuns: none is denied, and none stays, whether the kernel lets them go, as the
// worker is killed, or the worker answers. So many processes take their time on few processors, so the limit is the promised
// one and a multiple of what as many take that nobody holds.
func TestEveryExecThatQueuesBehindAStoppedAgentRuns(t *testing.T) {
	const stopped = time.Second
	count := machine.Volume(400, 2000)
	n := newNode(t)
	for what, goesOn := range map[string]bool{"for good": false, "for a second": true} {
		t.Run(what, func(t *testing.T) {
			n := *n
			n.t = t // so that its agent ends with it
			a := n.startAgent()
			worker := a.worker()
			free := n.execAtOnce(n.unmarked, count)

			send(t, worker, syscall.SIGSTOP)()
			if goesOn {
				timer := time.AfterFunc(stopped, send(t, worker, syscall.SIGCONT))
				defer timer.Stop()
			}
			held := n.execAtOnce(n.marked, count)

			t.Logf("%d execs at once took %v behind an agent that was stopped %s, and %v where nobody holds them", count,
				held.Round(time.Millisecond), what, free.Round(time.Millisecond))
			if allowed := min(supervisorOnly+4*free, limit); held > allowed {
				t.Errorf("%d execs took %v, more than %v", count, held, allowed)
			}
			if held < stopped {
				t.Errorf("the execs took only %v: nothing held them", held)
			}
			if got := a.log("Worker crashed"); goesOn && got != 0 {
				t.Errorf("the worker crashed %d times: it did not answer them", got)
			}
			a.checkSeesAgain(&n)
		})
	}
}

// execAtOnce executes the probe count times without a wait between them, checks that each ran, and returns the time of all.
func (n *node) execAtOnce(probe string, count int) time.Duration {
	n.t.Helper()
	// A shell forks without waiting for the exec, as Go does not. It has 126 of an exec that is denied.
	const script = `
		i=0; pids=
		while [ $i -lt "$1" ]; do "$0" exit 7 & pids="$pids $!"; i=$((i+1)); done
		bad=0
		for pid in $pids; do wait "$pid"; code=$?; [ $code = 7 ] || { echo "$pid ended with $code"; bad=1; }; done
		exit $bad`
	began := time.Now()
	if out, err := bounded(2*limit, exec.Command("sh", "-c", script, probe, fmt.Sprint(count))); err != nil {
		n.t.Fatalf("the execs: %v\n%s", err, lastOf(out))
	}
	return time.Since(began)
}

// TestAnAgentThatCannotWriteHoldsNothing: nobody reads what it prints, so its handler hangs in write(2).
func TestAnAgentThatCannotWriteHoldsNothing(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	a.pause <- true
	n.hold("a full pipe for a standard output", workerLives, func() {
		_, bundle := n.bundle([]string{"exit", "0"}, nil)
		n.script(`for i in $(seq 20); do $0 run --bundle "$1" "$2-pipe$i"; done`, bundle, idPrefix())
	})
	if late := a.metric("containerhook_deadline_exceeded_total"); late == 0 {
		t.Error("nothing was late: the agent could write")
	}
	a.pause <- false
	a.checkSeesAgain(n)
}

// TestAnAgentOutOfMemoryHoldsNothingForLong, nor denies more than the one exec whose event it was reading: fanotify denies
// one for whose event it finds no memory.
func TestAnAgentOutOfMemoryHoldsNothingForLong(t *testing.T) {
	n := newNode(t)
	n.mayDeny = 1
	a := n.startAgent()
	group := newMemoryGroup(t)
	n.hold("the worker OOM-killed", workerKilled, func() {
		group.confine(t, a.worker(), 1<<20)
		// It needs memory to answer a scrape.
		if err := poll(10*time.Second, func() error {
			_ = get("http://"+a.scrape+"/metrics", nil)
			if a.log("Worker crashed") == 0 {
				return fmt.Errorf("the worker is alive")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	group.remove(t)
	a.checkSeesAgain(n)
}

// TestAnAgentOutOfDescriptorsLetsExecsGo: fanotify denies an exec for whose event it finds no descriptor.
func TestAnAgentOutOfDescriptorsLetsExecsGo(t *testing.T) {
	n := newNode(t)
	n.files = 90 // the agent has about 30 open: with the 64 that the gate keeps clear of, too few
	a := n.startAgent()
	n.hold("few descriptors", workerKilled, func() {
		n.script(`for i in $(seq 300); do "$1" exit 0; done`, n.marked) // fails where one is denied
	})
	if a.log("descriptors run out") == 0 {
		t.Error("the agent does not say that it gave up for want of descriptors")
	}
	a.eventually("ready, by listing", func() error { return a.probe("/readyz") })
}

func TestAnAgentThatCrashesAgainAndAgainTurnsItsHookOffAndLists(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.startAgent("--deadline", "1s", "--list-interval", "1s")
	for crash := 1; crash <= 5; crash++ {
		send(t, a.worker(), syscall.SIGKILL)()
		a.eventually("restarted", func() error {
			if got := a.log("Worker crashed"); got < crash {
				return fmt.Errorf("%d crashes are logged", got)
			}
			return nil
		})
	}
	a.eventually("ready, by listing", func() error {
		if a.log("The node is not hooked") == 0 {
			return fmt.Errorf("it does not say that the node is not hooked")
		}
		return a.probe("/readyz")
	})
	if marked := a.metric("containerhook_marked_runtimes"); marked != 0 {
		t.Errorf("%v runtimes are marked by an agent that crashes again and again", marked)
	}
	id, bundle := n.bundle([]string{"sleep"}, nil)
	n.remove(n.runc, id)
	n.must(n.runc, "run", "--detach", "--bundle", bundle, id)
	if c := a.wait(id, v1alpha1.StateRunning); c.Status.Conditions[0].Reason != v1alpha1.ReasonListing {
		t.Errorf("it was observed by %s, want %s", c.Status.Conditions[0].Reason, v1alpha1.ReasonListing)
	}
}

// TestAHostProcThatHangsHoldsNothing: every access to the host's procfs hangs, as with a FUSE server that died.
func TestAHostProcThatHangsHoldsNothing(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	release := a.hang(filepath.Join(hostDir, "proc"))
	prefix := idPrefix() + "-proc"
	n.hold("a host procfs that hangs", workerLives, func() {
		_, bundle := n.bundle([]string{"exit", "3"}, nil)
		n.script(`for i in 1 2 3 4 5; do $0 run --bundle "$1" "$2$i" || test $? = 3; done`, bundle, prefix)
	})
	if late := a.metric("containerhook_deadline_exceeded_total"); late == 0 {
		t.Error("nothing was late: the procfs did not hang")
	}
	release()
	t.Parallel() // what is measured is measured; the sweep comes every ten seconds
	a.checkSeesAgain(n)
	for i := 1; i <= 5; i++ { // the sweep finds their runtimes dead; how they ended nobody has seen
		end := last(a.state(t, fmt.Sprint(prefix, i), v1alpha1.StateStopped))
		if end.Status.Reason != v1alpha1.StopExitUnseen || end.Status.ExitCode != nil {
			t.Errorf("%s was let go unseen, and told as %s with exit code %s", end.Spec.ContainerID, end.Status.Reason, exitOf(end))
		}
	}
}

func TestAListingThatHangsHoldsNothing(t *testing.T) {
	n := newNode(t)
	if err := os.MkdirAll(n.stateRoot, 0o711); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(n.dir, "other-state")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	a := n.startAgent("--list-interval", "1s", "--state-root", other)
	release := a.hang(filepath.Join(hostDir, other))
	id, bundle := n.bundle([]string{"exit", "3"}, nil)
	n.hold("a listing that hangs", workerLives, while(nothing, 3*time.Second, func() {
		n.script(`$0 run --bundle "$1" "$2" || test $? = 3`, bundle, id)
	}))
	a.wait(id, v1alpha1.StateStopped)
	release()
	a.checkSeesAgain(n)
}

// log counts a text in what the agent has logged.
func (a *agent) log(text string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Count(a.stderr.String(), text)
}
