package tracker

import (
	"path"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/event"
)

// Roll asks for the inits of all containers that are tracked, the stopped ones too.
type Roll struct{ Reply chan<- map[Identity]bool }

func (in Roll) apply(t *Tracker) { in.Reply <- t.inits() }

func (t *Tracker) inits() map[Identity]bool {
	all := make(map[Identity]bool, len(t.byID))
	for _, c := range t.byID {
		all[IdentityOf(c.Init)] = true
	}
	return all
}

// Inventory is what the runtimes' state on disk says is there.
type Inventory struct {
	At      time.Time
	First   bool // the agent has only begun: what it finds was not missed
	Entries []Entry
	Unread  []Instance // whose uid is not known; what may be there as well: a container, with a root only all of it (a pattern), or just anything
}

// Entry is one container of an inventory.
type Entry struct {
	Instance
	Runtime string // whose form its state has: "runc", "crun" or "youki"
	Bundle  string
	Created time.Time // may be zero
	Waiting bool      // for its start
	At      time.Time // it was looked at
	Init    event.Process
	Alive   bool // and, where it was not known, followed from now on

	// Of one that was not known.
	Name, Path string
	Spec       *specs.Spec
	Problem    string
}

func (in Inventory) apply(t *Tracker) {
	making, known := map[Instance]*container{}, t.inits() // known under another name too: a root is not always called as we do
	for _, c := range t.byRuntime {
		making[c.instance()] = c
	}
	listed, kept := map[Instance]bool{}, map[Identity]bool{}
	for i := range in.Entries {
		e := &in.Entries[i]
		listed[e.Instance], kept[IdentityOf(e.Init)] = true, true
		current := t.byID[e.Instance]
		switch {
		case making[e.Instance] != nil:
			if !known[IdentityOf(e.Init)] {
				t.madeUp(making[e.Instance], e, &in)
			}
		case current != nil && IdentityOf(current.Init) == IdentityOf(e.Init):
			t.caughtUp(current, e)
		case known[IdentityOf(e.Init)]:
		case current != nil && current.Init.StartTicks >= e.Init.StartTicks: // listed before its ID was given to another one
		default:
			if current != nil && current.State != event.Stopped {
				t.finish(current, in.At, nil, event.ExitUnknown) // its ID was given to another one meanwhile
			}
			t.found(e, &in)
		}
	}
	// A stopped container is kept until its runtime forgets it, so that a listing does not find it once more.
	for of, c := range t.byID {
		if c.State == event.Stopped && !listed[of] && !kept[IdentityOf(c.Init)] && c.FinishTime.Before(in.At) && !in.hides(of) {
			delete(t.byID, of)
		}
	}
}

// hides says whether a container may be there that the inventory does not have.
func (in *Inventory) hides(of Instance) bool {
	return slices.ContainsFunc(in.Unread, func(u Instance) bool {
		matches, _ := path.Match(u.Root, of.Root)
		return u.Root == of.Root && u.ID == of.ID || u.ID == "" && (u.Root == "" || u.Root == of.Root || matches)
	})
}

// caughtUp is what a listing knows better of c than those whose events were lost, or who could not know.
func (t *Tracker) caughtUp(c *container, e *Entry) {
	if (c.State == event.Creating || c.State == event.Created) && e.Alive && !e.Waiting {
		c.State, c.StartTime = event.Running, e.At
		t.emit(c)
	}
}

// madeUp gives c its init, which its runtime made before it was followed; that runtime may run for as long as the init.
func (t *Tracker) madeUp(c *container, e *Entry, in *Inventory) {
	if !c.late || c.Init.PID != 0 || !e.Alive {
		return
	}
	t.setInit(c, e.Init, in.At)
	t.emit(c)
	t.caughtUp(c, e)
}

// misses says whether a container is about to start that nobody has reported.
func (t *Tracker) misses(s Starting) bool {
	c := t.byID[s.Of]
	return s.Init.PID != 0 && (c == nil || c.State == event.Stopped && IdentityOf(c.Init) != IdentityOf(s.Init))
}

// found begins to track a container that only its runtime's state has.
func (t *Tracker) found(e *Entry, in *Inventory) {
	c := &container{spec: e.Spec, uid: e.UID, Container: event.Container{ID: e.ID, Name: e.Name,
		Runtime: event.Runtime{Name: e.Runtime, Path: e.Path, Root: e.Root}, Bundle: e.Bundle,
		Rootless: e.UID != 0, Source: event.FromListing, Problem: e.Problem, State: event.Running, CreateTime: e.Created}}
	if !in.First {
		t.Missed++
	}
	if !e.Alive { // its pid may be another container's by now
		c.Init, t.byID[e.Instance] = e.Init, c
		t.finish(c, in.At, nil, event.ExitUnknown)
		return
	}
	t.setInit(c, e.Init, in.At)
	if e.Waiting {
		c.State = event.Created
	}
	t.emit(c)
}

// Resumed is a container that was reported by the agent before this one.
type Resumed struct {
	At        time.Time
	Container event.Container // as it was then
	UID       uint32          // whose it is
	Alive     bool            // its init is
}

func (in Resumed) apply(t *Tracker) {
	c := &container{Container: in.Container, uid: in.UID, emitted: true}
	t.byID[c.instance()] = c
	switch {
	case c.State == event.Stopped: // kept until its runtime forgets it, so that a listing does not find it once more
	case in.Alive:
		t.setInit(c, c.Init, in.At)
	default:
		t.finish(c, in.At, nil, event.ExitUnknown)
	}
}
