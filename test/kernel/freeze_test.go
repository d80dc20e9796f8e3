package kernel

import (
	"errors"
	"fmt"
	"maps"
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
	deadline    = 200 * time.Millisecond
	gateLives   = deadline + 100*time.Millisecond // whatever becomes of the worker
	workerEnded = 20 * time.Millisecond           // nobody waits for it
	gateKilled  = 500 * time.Millisecond
	gateStopped = 2500 * time.Millisecond // the watchdog ends it
)

// machineAtMost is what a busy machine may add to a hold, however long an exec takes that nobody holds.
const machineAtMost = 500 * time.Millisecond

// hold executes the marked probe while during runs, and fails where one took longer than limit.
func (n *node) hold(what string, limit time.Duration, during func()) {
	n.t.Helper()
	held, free := n.execTimes(during)
	n.row(what, held, limit, free)
	if allowed := limit + min(3*free, machineAtMost); held[0] > allowed {
		n.t.Errorf("held for %v, more than %v; the machine itself took %v", held[0], allowed, free)
	}
}

// row prints the row of a table.
func (n *node) row(what string, held []time.Duration, limit, free time.Duration) {
	n.t.Helper()
	n.t.Logf("hold-row: | %s | %v | %v | of %d execs, the machine itself %v |", what, held[0].Round(time.Millisecond), limit,
		len(held), free.Round(time.Millisecond))
}

// holdInFlood is hold where the agent has to work for many at once, so that a processor may not be free when a deadline
// passes: three of four keep to the limit, and each to what the kernel's timer allows.
func (n *node) holdInFlood(what string, during func()) {
	n.t.Helper()
	held, free := n.execTimes(during)
	most := held[len(held)/4]
	n.row(what, held, gateStopped, free)
	n.t.Logf("three of four %v (limit %v)", most.Round(time.Millisecond), gateLives)

	machine := min(3*free, machineAtMost)
	if held[0] > gateStopped+machine {
		n.t.Errorf("held for %v, more than %v; the machine itself took %v", held[0], gateStopped+machine, free)
	}
	if most > gateLives+machine {
		n.t.Errorf("one of four was held for %v, more than %v; the machine itself took %v", most, gateLives+machine, free)
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
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != refused { // it knows no start
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
	n.hold("a handler that sleeps for 3 s", gateLives, func() {
		began := time.Now()
		n.script(`$0 start "$1"`, id)
		started = time.Since(began)
	})
	if started < deadline {
		t.Errorf("runc start took %v: the handler that hangs did not hold it", started)
	}
	t.Logf("runc start took %v meanwhile", started.Round(time.Millisecond))
}

// TestAWorkerThatIsStoppedOrEndsHoldsNothing: the first exec may wait until the deadline, the others for nothing.
func TestAWorkerThatIsStoppedOrEndsHoldsNothing(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	send(t, a.worker(), syscall.SIGKILL)() // a first worker that ends at once with 2, as in a panic, ends the agent
	a.eventually("with another worker", func() error { return a.probe("/readyz") })
	marks := a.marks()
	for _, test := range []struct {
		what  string
		limit time.Duration
		fault func() func()
	}{
		{"the worker under SIGSTOP", gateLives, func() func() {
			worker := a.worker()
			return while(send(t, worker, syscall.SIGSTOP), 3*time.Second, send(t, worker, syscall.SIGCONT))
		}},
		{"the worker under SIGKILL", workerEnded, func() func() {
			return while(send(t, a.worker(), syscall.SIGKILL), time.Second, nothing)
		}},
		{"the worker under SIGABRT, as in a panic", workerEnded, func() func() {
			return while(send(t, a.worker(), syscall.SIGABRT), time.Second, nothing)
		}},
		{"the pod's first process under SIGSTOP", gateLives, func() func() {
			pid := a.cmd.Process.Pid
			return while(send(t, pid, syscall.SIGSTOP), 3*time.Second, send(t, pid, syscall.SIGCONT))
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			n := *n
			n.t = t
			late, unseen := a.metric(lateExecs), a.metric(unseenExecs)
			n.hold(test.what, test.limit, test.fault())
			a.checkSeesAgain(&n)
			late, unseen = a.metric(lateExecs)-late, a.metric(unseenExecs)-unseen
			t.Logf("%v execs were allowed at the deadline, %v at once", late, unseen)
			if late > 3 { // one, and what a busy machine adds
				t.Errorf("%v execs waited for the deadline", late)
			}
			if got := a.marks(); !maps.Equal(got, marks) {
				t.Errorf("marked %v, before %v", got, marks)
			}
		})
	}
}

// unseenExecs are those that were allowed at once, for nobody was there to look at them.
const unseenExecs = `containerhook_exec_events_total{result="no_worker"}`

// TestAGateThatIsStoppedOrKilledHoldsNothingForLong, and its worker ends with it.
func TestAGateThatIsStoppedOrKilledHoldsNothingForLong(t *testing.T) {
	n := newNode(t)
	for _, test := range []struct {
		what  string
		limit time.Duration
		fault func(gate, worker int) func()
	}{
		{"the gate under SIGSTOP", gateStopped, func(gate, _ int) func() { return send(t, gate, syscall.SIGSTOP) }},
		{"gate and worker under SIGSTOP", gateStopped, func(gate, worker int) func() {
			return func() { send(t, worker, syscall.SIGSTOP)(); send(t, gate, syscall.SIGSTOP)() }
		}},
		{"the gate under SIGKILL", gateKilled, func(gate, _ int) func() { return send(t, gate, syscall.SIGKILL) }},
	} {
		t.Run(test.what, func(t *testing.T) {
			n := *n
			n.t = t // so that its agents end with it
			a := n.startAgent()
			worker := a.worker()
			n.hold(test.what, test.limit, while(test.fault(a.gate(), worker), 3*time.Second, nothing))
			a.checkKilled()
			if err := syscall.Kill(worker, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("the worker is still there: %v", err)
			}
			n.startAgent().checkSeesAgain(&n)
		})
	}
}

// checkKilled waits for the end of an agent whose gate was killed.
func (a *agent) checkKilled() {
	a.t.Helper()
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	timer := time.AfterFunc(limit, func() { _ = a.cmd.Process.Kill() })
	defer timer.Stop()
	_ = a.cmd.Wait() // its exit code is all that it has to say
	if got := a.cmd.ProcessState.ExitCode(); got != 128+int(syscall.SIGKILL) {
		a.t.Errorf("the agent ended with %d\n%s", got, lastOf(a.stderr.String()))
	}
}

// TestEveryExecThatQueuesBehindAStoppedAgentRuns: none is denied, and none stays, whether the kernel lets them go, as the
// gate is killed, or the gate answers. So many processes take their time on few processors, so the limit is the promised
// one and a multiple of what as many take that nobody holds.
func TestEveryExecThatQueuesBehindAStoppedAgentRuns(t *testing.T) {
	const stopped, few = 500 * time.Millisecond, 400 // so that the gate is not silent for so long that it is killed
	n := newNode(t)
	for _, test := range []struct {
		what         string
		gate, goesOn bool
	}{{"gate, for good", true, false}, {"gate, for half a second", true, true}, {"worker, for good", false, false}} {
		t.Run(test.what, func(t *testing.T) {
			count := few
			if !test.goesOn {
				count = machine.Volume(few, 2000)
			}
			n := *n
			n.t = t // so that its agent ends with it
			a := n.startAgent()
			free := n.execAtOnce(n.unmarked, count)

			pid := a.worker()
			if test.gate {
				pid = a.gate()
			}
			send(t, pid, syscall.SIGSTOP)()
			if test.goesOn {
				timer := time.AfterFunc(stopped, send(t, pid, syscall.SIGCONT))
				defer timer.Stop()
			}
			held := n.execAtOnce(n.marked, count)

			t.Logf("%d execs at once took %v behind a stopped %s, and %v where nobody holds them", count, held.Round(time.Millisecond),
				test.what, free.Round(time.Millisecond))
			if allowed := min(gateStopped+4*free, limit); held > allowed {
				t.Errorf("%d execs took %v, more than %v", count, held, allowed)
			}
			if test.gate && held < stopped {
				t.Errorf("the execs took only %v: nothing held them", held)
			}
			switch {
			case !test.gate:
				send(t, pid, syscall.SIGCONT)()
				if late := a.metric(lateExecs); late == 0 {
					t.Error("none waited for the deadline: nothing held them")
				}
				if all := a.metric("containerhook_exec_events_total"); all < float64(count) {
					t.Errorf("%v of %d execs were counted", all, count)
				}
			case !test.goesOn:
				a.checkKilled()
				a = n.startAgent()
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
	n.hold("a full pipe for a standard output", gateLives, func() {
		_, bundle := n.bundle([]string{"exit", "0"}, nil)
		n.script(`for i in $(seq 20); do $0 run --bundle "$1" "$2-pipe$i"; done`, bundle, idPrefix())
	})
	if late := a.metric("containerhook_deadline_exceeded_total"); late == 0 {
		t.Error("nothing was late: the agent could write")
	}
	a.pause <- false
	a.checkSeesAgain(n)
}

func TestAWorkerOutOfMemoryHoldsNothing(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	group := newMemoryGroup(t)
	n.hold("the worker OOM-killed", gateLives, func() {
		group.confine(t, a.worker(), 1<<20)
		a.starve()
	})
	group.remove(t)
	a.checkSeesAgain(n)
}

// starve waits for the end of a worker that has no memory to answer a scrape.
func (a *agent) starve() {
	a.t.Helper()
	if err := poll(10*time.Second, func() error {
		_ = get("http://"+a.scrape+"/metrics", nil)
		if a.log("Worker crashed") == 0 {
			return fmt.Errorf("the worker is alive")
		}
		return nil
	}); err != nil {
		a.t.Error(err)
	}
}

// TestAnAgentWithFewDescriptorsDeniesNoExec: fanotify denies one for whose event the gate has no descriptor.
func TestAnAgentWithFewDescriptorsDeniesNoExec(t *testing.T) {
	t.Run("too few to hold any", func(t *testing.T) {
		n := newNode(t)
		n.files = 256
		a := n.startAgent("--list-interval", "1s")
		n.hold("too few descriptors to hold any", workerEnded, func() {
			n.script(`for i in $(seq 300); do "$1" exit 0; done`, n.marked) // fails where one is denied
		})
		if a.log("the limit of open files, 256, is too low") != 1 {
			t.Error("the agent does not say that it needs more descriptors")
		}
		id, bundle := n.bundle([]string{"sleep"}, nil)
		n.remove(n.runc, id)
		n.must(n.runc, "run", "--detach", "--bundle", bundle, id)
		if c := a.wait(id, v1alpha1.StateRunning); seenBy(&c) != v1alpha1.ReasonListing {
			t.Errorf("it was seen by %s, want %s", seenBy(&c), v1alpha1.ReasonListing)
		}
	})
	t.Run("enough to hold a few", func(t *testing.T) {
		n := newNode(t)
		n.files = 270
		a := n.startAgent()
		worker := a.worker()
		send(t, worker, syscall.SIGSTOP)()
		n.execAtOnce(n.marked, 400) // fails where one is denied
		send(t, worker, syscall.SIGCONT)()
		if over := a.metric(`containerhook_exec_events_total{result="over_limit"}`); over == 0 {
			t.Error("no exec found the descriptors used up")
		}
		a.checkSeesAgain(n)
	})
}

// TestAWorkerThatCrashesAgainAndAgainLeavesTheHookOn: the marks stay, and the next worker sees containers by the hook.
func TestAWorkerThatCrashesAgainAndAgainLeavesTheHookOn(t *testing.T) {
	t.Parallel()
	const crashes = 5
	n := newNode(t)
	a := n.startAgent("--deadline", "1s")
	marks := a.marks()
	for crash := 1; crash <= crashes; crash++ {
		send(t, a.worker(), syscall.SIGKILL)()
		a.eventually("restarted", func() error {
			if got := a.log("Worker crashed"); got < crash {
				return fmt.Errorf("%d crashes are logged", got)
			}
			return nil
		})
	}
	a.eventually("ready again", func() error { return a.probe("/readyz") })
	if got := a.metric("containerhook_worker_restarts_total"); got != crashes {
		t.Errorf("%v restarts are counted, want %d", got, crashes)
	}
	if got := a.marks(); !maps.Equal(got, marks) {
		t.Errorf("marked %v, before %v", got, marks)
	}
	if got := a.metric("containerhook_marked_runtimes"); got != float64(len(marks)-1) { // but for the heartbeat
		t.Errorf("%v runtimes are marked by its own count, want %d", got, len(marks)-1)
	}
	id, bundle := n.bundle([]string{"sleep"}, nil)
	n.remove(n.runc, id)
	n.must(n.runc, "run", "--detach", "--bundle", bundle, id)
	if c := a.wait(id, v1alpha1.StateRunning); seenBy(&c) != v1alpha1.ReasonHook {
		t.Errorf("it was seen by %s, want %s", seenBy(&c), v1alpha1.ReasonHook)
	}
}

// TestAHostProcThatHangsHoldsNothing: every access to the host's procfs hangs, as with a FUSE server that died.
func TestAHostProcThatHangsHoldsNothing(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	release := a.hang(filepath.Join(hostDir, "proc"))
	prefix := idPrefix() + "-proc"
	n.hold("a host procfs that hangs", gateLives, func() {
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
		if end.Status.Reason != v1alpha1.StopExitUnknown || end.Status.ExitCode != nil {
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
	n.hold("a listing that hangs", gateLives, while(nothing, 3*time.Second, func() {
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

// TestAFrozenAgentHoldsNothingBeyondItsThaw: cgroup v1's freezer keeps the watchdog's SIGKILL out, v2's does not.
func TestAFrozenAgentHoldsNothingBeyondItsThaw(t *testing.T) {
	const frozen = 4 * time.Second
	n := newNode(t)
	top, limit, file, freeze, thaw := "/sys/fs/cgroup", gateStopped, "cgroup.freeze", "1", "0"
	if v1 := "/sys/fs/cgroup/freezer"; exists(v1) {
		top, limit, file, freeze, thaw = v1, frozen+gateKilled, "freezer.state", "FROZEN", "THAWED"
	}
	dir := filepath.Join(top, testCgroup()+"-frozen")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, value string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		write(file, thaw)
		if err := poll(10*time.Second, func() error { return unix.Rmdir(dir) }); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})

	a := n.startAgent()
	for _, pid := range []int{a.cmd.Process.Pid, a.gate(), a.worker()} {
		write("cgroup.procs", fmt.Sprint(pid))
	}
	// Not by this process: a thread of it waits for a held exec, and Go's garbage collector for that thread.
	n.hold("the agent frozen for 4 s by "+file, limit, func() {
		if out, err := exec.Command("sh", "-ec", `echo $1 >"$0"; sleep $3; echo $2 >"$0"`,
			filepath.Join(dir, file), freeze, thaw, fmt.Sprint(frozen.Seconds())).CombinedOutput(); err != nil {
			t.Errorf("freeze and thaw: %v: %s", err, out)
		}
	})
	a.checkKilled()
	n.startAgent().checkSeesAgain(n)
}
