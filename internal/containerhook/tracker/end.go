package tracker

import (
	"time"

	"github.com/containerhook/containerhook/internal/event"
)

// Exited is that a runtime or an init has ended.
type Exited struct {
	At        time.Time
	Process   event.Process
	Code      int32 // as runtimes report it: 128 + the signal for one that was killed
	Signal    int32 // that killed it; 0 for none
	OOM       bool
	IsRuntime bool
}

func (in Exited) apply(t *Tracker) {
	if in.IsRuntime {
		if c := t.byRuntime[in.Process.PID]; c != nil && IdentityOf(c.runtime) == IdentityOf(in.Process) {
			if t.postpone(c, in) {
				return
			}
			t.runtimeEnded(c, in.At, &in.Code)
		}
		return
	}
	if t.postpone(t.early[in.Process.PID], in) {
		return
	}
	c := t.byInit[in.Process.PID]
	if c == nil || IdentityOf(c.Init) != IdentityOf(in.Process) {
		return
	}
	delete(t.byInit, in.Process.PID)
	if c.runtime.PID != 0 && (!c.begun() || c.verb == Restore) {
		c.end = &in
		return
	}
	t.finishInit(c, &in)
}

// Vanished is that a runtime or an init is dead, and the kernel did not report it.
type Vanished struct {
	At        time.Time
	Process   event.Process
	isRuntime bool
}

func (in Vanished) apply(t *Tracker) {
	if in.isRuntime {
		if c := t.byRuntime[in.Process.PID]; c != nil && IdentityOf(c.runtime) == IdentityOf(in.Process) && !t.postpone(c, in) {
			t.runtimeEnded(c, in.At, nil)
		}
		return
	}
	if c := t.byInit[in.Process.PID]; c != nil && IdentityOf(c.Init) == IdentityOf(in.Process) {
		t.finish(c, in.At, nil, event.ExitUnknown)
	}
}

// Census asks for the runtimes and inits that should live, as what would be sent if one did not.
type Census struct{ Reply chan<- []Vanished }

func (in Census) apply(t *Tracker) {
	live := make([]Vanished, 0, len(t.byInit)+len(t.byRuntime))
	for _, c := range t.byInit {
		live = append(live, Vanished{Process: c.Init})
	}
	for _, c := range t.byRuntime {
		live = append(live, Vanished{Process: c.runtime, isRuntime: true})
	}
	in.Reply <- live
}

// runtimeEnded decides what the end of its create, run or restore means for c. code is nil where nobody saw that end.
func (t *Tracker) runtimeEnded(c *container, at time.Time, code *int32) {
	if c.verb == Run && c.Init.PID == 0 && code != nil && *code == 0 && !c.Rootless {
		// In the host's PID namespace: its init's exec is on its way, and maybe its end. The sweep asks again, so that this
		// is kept for a while; users could have us keep a lot.
		return
	}
	delete(t.byRuntime, c.runtime.PID)
	if c.Init.PID == 0 {
		c.Init.StartTicks = c.runtime.StartTicks
	}
	c.runtime = event.Process{}
	unseen := c.late && c.Init.PID == 0 // there may have been an init: the code may be its own
	switch failed := code != nil && *code != 0 && !unseen; {
	case c.State == event.Stopped, c.begun() && c.end == nil:
	case c.end != nil && (!failed || c.verb == Restore && *code == c.end.Code):
		// What is restored executes nothing: that both end alike is all that shows that the restore had worked.
		t.finishInit(c, c.end)
	case failed && c.Init.PID != 0 && c.end == nil:
		c.failed = code // killed, as a rule: its init follows, unless the container was complete
	case failed:
		t.finish(c, at, code, event.CreateFailed)
	case c.Init.PID != 0 && c.verb != Restore:
		t.prepared(c) // run -d does not wait for its init's exec either, and is mostly done before it
	default: // it was not seen, or not yet as it is now
		if before := t.resolving[c.instance()]; before != nil {
			t.runtimeResolved(before, Resolved{At: at}) // its ID was given to another one meanwhile
		}
		t.resolving[c.instance()] = c
		t.request(c)
	}
}

// runtimeResolved: the runtime of c is done, and its state on disk has been read. No exec of its init was seen.
func (t *Tracker) runtimeResolved(c *container, in Resolved) {
	switch {
	case c.State == event.Stopped || c.begun():
	case c.Init.PID == 0:
		c.Problem = "its init was not seen, and the runtime's state does not name it any more"
		t.finish(c, in.At, nil, event.ExitUnknown)
	case c.verb == Create && (in.Waiting || in.Init.PID == 0):
		t.prepared(c)
	case c.verb == Create: // it was started while its state was read
		t.prepared(c)
		fallthrough
	default:
		c.State, c.StartTime = event.Running, in.At
		t.emit(c)
	}
}

// prepared: c is there, and its process has yet to begin.
func (t *Tracker) prepared(c *container) {
	if c.State != event.Created { // else reported when its start was held: that came by a shorter road
		c.State = event.Created
		t.emit(c)
	}
}

// finishInit makes c stopped as its init ended.
func (t *Tracker) finishInit(c *container, end *Exited) {
	reason := event.Completed
	if end.Code != 0 {
		reason = event.Failed
	}
	c.Signal = end.Signal
	if end.OOM {
		c.OOMKilled, reason = true, event.OOMKilled
	}
	t.finish(c, end.At, &end.Code, reason)
}

// finish makes c stopped.
func (t *Tracker) finish(c *container, at time.Time, code *int32, reason event.Reason) {
	if c.failed != nil && !c.begun() {
		code, reason = c.failed, event.CreateFailed
	}
	c.State, c.FinishTime, c.ExitCode, c.Reason = event.Stopped, at, code, reason
	if t.byInit[c.Init.PID] == c {
		delete(t.byInit, c.Init.PID)
	}
	if t.byID[c.instance()] == c {
		t.Ended++
	}
	t.emit(c)
}
