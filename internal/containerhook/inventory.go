package containerhook

import (
	"errors"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/hook"
)

// roll asks for the inits of all containers that are tracked, the stopped ones too.
type roll struct{ reply chan<- map[identity]bool }

func (in roll) apply(t *tracker) { in.reply <- t.inits() }

func (t *tracker) inits() map[identity]bool {
	all := make(map[identity]bool, len(t.byID))
	for _, c := range t.byID {
		all[identityOf(c.Init)] = true
	}
	return all
}

// inventory is what the runtimes' state on disk says is there.
type inventory struct {
	at      time.Time
	first   bool // the agent has only begun: what it finds was not missed
	entries []entry
	unread  []instance // whose uid is not known; what may be there as well: a container, with a root only all of it (a pattern), or just anything
}

// entry is one container of an inventory.
type entry struct {
	instance
	state runtimeState
	at    time.Time // it was looked at
	init  hook.Process
	alive bool // and, where it was not known, followed from now on

	// Of one that was not known.
	name, path string
	spec       *specs.Spec
	problem    string
}

// unread says what an error of a listing hides.
func unread(l *listed, err error) []instance {
	if errors.Is(err, errBadID) {
		return nil // that is no container
	}
	return []instance{{root: l.root, id: l.id}}
}

func (in inventory) apply(t *tracker) {
	making, known := map[instance]*container{}, t.inits() // known under another name too: a root is not always called as we do
	for _, c := range t.byRuntime {
		making[c.instance()] = c
	}
	listed, kept := map[instance]bool{}, map[identity]bool{}
	for i := range in.entries {
		e := &in.entries[i]
		listed[e.instance], kept[identityOf(e.init)] = true, true
		current := t.byID[e.instance]
		switch {
		case making[e.instance] != nil:
			if !known[identityOf(e.init)] {
				t.madeUp(making[e.instance], e, &in)
			}
		case current != nil && identityOf(current.Init) == identityOf(e.init):
			t.caughtUp(current, e)
		case known[identityOf(e.init)]:
		case current != nil && current.Init.StartTicks >= e.init.StartTicks: // listed before its ID was given to another one
		default:
			if current != nil && current.State != hook.Stopped {
				t.finish(current, in.at, nil, hook.ExitUnseen) // its ID was given to another one meanwhile
			}
			t.found(e, &in)
		}
	}
	// A stopped container is kept until its runtime forgets it, so that a listing does not find it once more.
	for of, c := range t.byID {
		if c.State == hook.Stopped && !listed[of] && !kept[identityOf(c.Init)] && c.FinishTime.Before(in.at) && !in.hides(of) {
			delete(t.byID, of)
		}
	}
}

// hides says whether a container may be there that the inventory does not have.
func (in *inventory) hides(of instance) bool {
	return slices.ContainsFunc(in.unread, func(u instance) bool {
		matches, _ := path.Match(u.root, of.root)
		return u.root == of.root && u.id == of.id || u.id == "" && (u.root == "" || u.root == of.root || matches)
	})
}

// caughtUp is what a listing knows better of c than those whose events were lost, or who could not know.
func (t *tracker) caughtUp(c *container, e *entry) {
	if (c.State == hook.Creating || c.State == hook.Created) && e.alive && !e.state.waiting {
		c.State, c.StartTime = hook.Running, e.at
		t.emit(c)
	}
}

// madeUp gives c its init, which its runtime made before it was followed; that runtime may run for as long as the init.
func (t *tracker) madeUp(c *container, e *entry, in *inventory) {
	if !c.late || c.Init.PID != 0 || !e.alive {
		return
	}
	t.setInit(c, e.init, in.at)
	t.emit(c)
	t.caughtUp(c, e)
}

// misses says whether a container is about to start that nobody has reported.
func (t *tracker) misses(s starting) bool {
	c := t.byID[s.of]
	return s.init.PID != 0 && (c == nil || c.State == hook.Stopped && identityOf(c.Init) != identityOf(s.init))
}

// found begins to track a container that only its runtime's state has.
func (t *tracker) found(e *entry, in *inventory) {
	c := &container{spec: e.spec, uid: e.uid, Container: hook.Container{ID: e.id, Name: e.name,
		Runtime: hook.Runtime{Name: e.state.runtime, Path: e.path, Root: e.root}, Bundle: e.state.bundle,
		Rootless: e.state.uid != 0, Source: hook.FromListing, Problem: e.problem, State: hook.Running, CreateTime: e.state.created}}
	if !in.first {
		t.missed++
	}
	if !e.alive { // its pid may be another container's by now
		c.Init, t.byID[e.instance] = e.init, c
		t.finish(c, in.at, nil, hook.ExitUnseen)
		return
	}
	t.setInit(c, e.init, in.at)
	if e.state.waiting {
		c.State = hook.Created
	}
	t.emit(c)
}
