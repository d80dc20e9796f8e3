package containerhook

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/hook"
)

// exited: a runtime or an init has ended.
type exited struct {
	at        time.Time
	process   hook.Process
	status    unix.WaitStatus
	oom       bool
	isRuntime bool
}

func (in exited) apply(t *tracker) {
	if in.isRuntime {
		if c := t.byRuntime[in.process.PID]; c != nil && identityOf(c.runtime) == identityOf(in.process) {
			if t.postpone(c, in) {
				return
			}
			code := exitCode(in.status)
			t.runtimeEnded(c, in.at, &code)
		}
		return
	}
	if t.postpone(t.early[in.process.PID], in) {
		return
	}
	c := t.byInit[in.process.PID]
	if c == nil || identityOf(c.Init) != identityOf(in.process) {
		return
	}
	delete(t.byInit, in.process.PID)
	if c.runtime.PID != 0 && (!c.begun() || c.verb == verbRestore) {
		c.end = &in
		return
	}
	t.finishInit(c, &in)
}

// vanished: a runtime or an init is dead, and the kernel did not report it.
type vanished struct {
	at        time.Time
	process   hook.Process
	isRuntime bool
}

func (in vanished) apply(t *tracker) {
	if in.isRuntime {
		if c := t.byRuntime[in.process.PID]; c != nil && identityOf(c.runtime) == identityOf(in.process) && !t.postpone(c, in) {
			t.runtimeEnded(c, in.at, nil)
		}
		return
	}
	if c := t.byInit[in.process.PID]; c != nil && identityOf(c.Init) == identityOf(in.process) {
		t.finish(c, in.at, nil, hook.ExitUnseen)
	}
}

// runtimeEnded decides what the end of its create, run or restore means for c. code is nil where nobody saw that end.
func (t *tracker) runtimeEnded(c *container, at time.Time, code *int32) {
	if c.verb == verbRun && c.Init.PID == 0 && code != nil && *code == 0 && !c.Rootless {
		// In the host's PID namespace: its init's exec is on its way, and maybe its end. The sweep asks again, so that this
		// is kept for a while; users could have us keep a lot.
		return
	}
	delete(t.byRuntime, c.runtime.PID)
	if c.Init.PID == 0 {
		c.Init.StartTicks = c.runtime.StartTicks
	}
	c.runtime = hook.Process{}
	unseen := c.late && c.Init.PID == 0 // there may have been an init: the code may be its own
	switch failed := code != nil && *code != 0 && !unseen; {
	case c.State == hook.Stopped, c.begun() && c.end == nil:
	case c.end != nil && (!failed || c.verb == verbRestore && *code == exitCode(c.end.status)):
		// What is restored executes nothing: that both end alike is all that shows that the restore had worked.
		t.finishInit(c, c.end)
	case failed && c.Init.PID != 0 && c.end == nil:
		c.failed = code // killed, as a rule: its init follows, unless the container was complete
	case failed:
		t.finish(c, at, code, hook.CreateFailed)
	case c.Init.PID != 0 && c.verb != verbRestore:
		t.prepared(c) // run -d does not wait for its init's exec either, and is mostly done before it
	default: // it was not seen, or not yet as it is now
		if before := t.resolving[c.instance()]; before != nil {
			t.runtimeResolved(before, resolved{at: at}) // its ID was given to another one meanwhile
		}
		t.resolving[c.instance()] = c
		t.request(c)
	}
}

// runtimeResolved: the runtime of c is done, and its state on disk has been read. No exec of its init was seen.
func (t *tracker) runtimeResolved(c *container, in resolved) {
	switch {
	case c.State == hook.Stopped || c.begun():
	case c.Init.PID == 0:
		c.Problem = "its init was not seen, and the runtime's state does not name it any more"
		t.finish(c, in.at, nil, hook.ExitUnseen)
	case c.verb == verbCreate && (in.waiting || in.init.PID == 0):
		t.prepared(c)
	case c.verb == verbCreate: // it was started while its state was read
		t.prepared(c)
		fallthrough
	default:
		c.State, c.StartTime = hook.Running, in.at
		t.emit(c)
	}
}

// prepared: c is there, and its process has yet to begin.
func (t *tracker) prepared(c *container) {
	if c.State != hook.Created { // else reported when its start was held: that came by a shorter road
		c.State = hook.Created
		t.emit(c)
	}
}

// finishInit makes c stopped as its init ended.
func (t *tracker) finishInit(c *container, end *exited) {
	reason := hook.Completed
	code := exitCode(end.status)
	if code != 0 {
		reason = hook.Failed
	}
	if end.status.Signaled() {
		c.Signal = int32(end.status.Signal())
	}
	if end.oom {
		c.OOMKilled, reason = true, hook.OOMKilled
	}
	t.finish(c, end.at, &code, reason)
}

// finish makes c stopped.
func (t *tracker) finish(c *container, at time.Time, code *int32, reason hook.Reason) {
	if c.failed != nil && !c.begun() {
		code, reason = c.failed, hook.CreateFailed
	}
	c.State, c.FinishTime, c.ExitCode, c.Reason = hook.Stopped, at, code, reason
	if t.byInit[c.Init.PID] == c {
		delete(t.byInit, c.Init.PID)
	}
	if t.byID[c.instance()] == c {
		t.ended++
	}
	t.emit(c)
}

// exitCode is the code that runtimes report: 128 + the signal for one that was killed.
func exitCode(s unix.WaitStatus) int32 {
	if s.Signaled() {
		return 128 + int32(s.Signal())
	}
	return int32(s.ExitStatus())
}
