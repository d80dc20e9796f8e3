package containerhook

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/hook"
)

const (
	// sweepEvery bounds how long the end of a container can go unseen that the kernel did not tell of.
	sweepEvery = 10 * time.Second
	// settle lets what was started in a gap get into its runtime's state before it is listed, and bounds how often a
	// storm of reasons has the node listed.
	settle = time.Second
)

// keepListed lists the node at once, every ListEvery, and soon after a reason to; and sweeps the dead in between.
func (h *Hook) keepListed(ctx context.Context) error {
	h.list(ctx, true)
	every := h.o.ListEvery
	if h.Degraded() != nil {
		every = min(every, sweepEvery)
	}
	list, sweep := time.NewTicker(every), time.NewTicker(sweepEvery)
	defer list.Stop()
	defer sweep.Stop()
	var lost uint64
	var suspects map[identity]bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-list.C:
			h.list(ctx, false)
		case <-h.relist:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
			h.list(ctx, false)
		case <-sweep.C:
			suspects = h.sweep(ctx, suspects)
			if h.life != nil && h.life.lost() != lost {
				lost = h.life.lost()
				h.wantListing("events_lost")
			}
		}
	}
}

// list takes the inventory of the node and gives it to the tracker.
func (h *Hook) list(ctx context.Context, first bool) {
	in := inventory{at: time.Now(), first: first}
	patterns := append(slices.Clone(defaultStateRoots), h.o.StateRoots...)
	if h.o.Rootless {
		patterns = append(patterns, rootlessStateRoots...)
	}
	for l, err := range list(h.host, patterns) {
		if err != nil {
			h.metrics.unread("state")
		}
		if l.state.pid != 0 {
			in.entries = append(in.entries, h.examine(l))
		}
	}
	h.sender(ctx)(in)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed = in.at
}

// examine says what has become of a container that is listed, and has its end reported.
func (h *Hook) examine(l listed) entry {
	e := entry{listed: l, init: hook.Process{PID: l.state.pid, StartTicks: l.state.startTicks}}
	if p, err := h.identify(l.state); err == nil {
		e.init, e.alive = p.process(), h.follow(p, l.state.waiting) == nil
	}
	return e
}

// adopt is the tracker's way to the init of a container in the host's PID namespace.
func (h *Hook) adopt(of instance) (hook.Process, bool) {
	state, err := readState(h.host, of.root, of.id)
	if err != nil {
		return hook.Process{}, false
	}
	t, err := h.identify(state)
	if err != nil {
		return hook.Process{}, false
	}
	return t.process(), h.follow(t, state.waiting) == nil
}

// follow has the end of an init reported, and its exec where it waits for start. An error says that it has ended.
func (h *Hook) follow(t task, waiting bool) error {
	if h.life == nil {
		return nil // the sweep will find it dead
	}
	if err := h.life.followInit(&t, waiting); err != nil {
		h.metrics.unread("follow")
		return nil
	}
	again, err := h.who.ownerOf(h.hostProc, int32(t.Tgid))
	if err == nil && again.StartBoottime != t.StartBoottime {
		err = errTaskGone
	}
	return err
}

// identify looks at the process that a runtime's state names.
func (h *Hook) identify(state runtimeState) (task, error) {
	t, err := h.look(state.pid)
	if err != nil {
		return task{}, fmt.Errorf("look at pid %d: %w", state.pid, err)
	}
	if ticks := t.process().StartTicks; state.startTicks != 0 && state.startTicks != ticks {
		return task{}, fmt.Errorf("pid %d began at tick %d, not %d: %w", state.pid, ticks, state.startTicks, errTaskGone)
	}
	return t, nil
}

// look asks the kernel about a pid of the host; without BPF, its procfs, which tells less.
func (h *Hook) look(pid int32) (task, error) {
	if h.who != nil {
		return h.who.ownerOf(h.hostProc, pid)
	}
	stat, err := os.ReadFile(filepath.Join(h.hostProc, strconv.Itoa(int(pid)), "stat"))
	if err != nil {
		return task{}, err
	}
	// "pid (comm) state …": comm may hold anything, blanks and brackets too. Field 22 is the start, in ticks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return task{}, errTaskGone
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return task{WhoTask: bpf.WhoTask{Tgid: uint32(pid), StartBoottime: ticks * (1e9 / userHZ)}}, err
}

// sweep finds runtimes and inits that died unseen. One that is dead in two sweeps is: what the kernel told has been
// heard by then.
func (h *Hook) sweep(ctx context.Context, suspects map[identity]bool) map[identity]bool {
	reply := make(chan []vanished, 1)
	h.sender(ctx)(census{reply})
	dead := map[identity]bool{}
	select {
	case <-ctx.Done():
	case live := <-reply:
		for _, in := range live {
			t, err := h.look(in.process.PID)
			if err == nil && identityOf(t.process()) == identityOf(in.process) {
				continue
			}
			id := identityOf(in.process)
			if dead[id] = true; suspects[id] {
				in.at = time.Now()
				h.sender(ctx)(in)
			}
		}
	}
	return dead
}

// census asks for the runtimes and inits that should live, as what would be sent if one did not.
type census struct{ reply chan<- []vanished }

func (in census) apply(t *tracker) {
	live := make([]vanished, 0, len(t.byInit)+len(t.byRuntime))
	for _, c := range t.byInit {
		live = append(live, vanished{process: c.Init})
	}
	for _, c := range t.byRuntime {
		live = append(live, vanished{process: c.runtime, isRuntime: true})
	}
	in.reply <- live
}

// inventory is what the runtimes' state on disk says is there.
type inventory struct {
	at      time.Time
	first   bool // the agent has only begun: what it finds was not missed
	entries []entry
}

// entry is one container of an inventory.
type entry struct {
	listed
	init  hook.Process
	alive bool
}

func (in inventory) apply(t *tracker) {
	making, known := map[instance]bool{}, map[identity]bool{}
	for _, c := range t.byRuntime {
		making[c.instance()] = true
	}
	for _, c := range t.byID {
		known[identityOf(c.Init)] = true // under another name too: a runtime's own root is not always what we call it
	}
	listed, kept := map[instance]bool{}, map[identity]bool{}
	for _, e := range in.entries {
		of := instance{e.root, e.id}
		listed[of], kept[identityOf(e.init)] = true, true
		current := t.byID[of]
		if making[of] || known[identityOf(e.init)] {
			continue
		}
		if current != nil && current.Init.StartTicks >= e.init.StartTicks {
			continue // listed before its ID was given to another one
		}
		if current != nil && current.State != hook.Stopped {
			t.finish(current, in.at, nil, hook.ExitUnseen) // its ID was given to another one meanwhile
		}
		t.found(&e, in)
	}
	// A stopped container is kept until its runtime forgets it, so that a listing does not find it once more.
	for of, c := range t.byID {
		if c.State == hook.Stopped && !listed[of] && !kept[identityOf(c.Init)] && c.FinishTime.Before(in.at) {
			delete(t.byID, of)
		}
	}
}

// found begins to track a container that only its runtime's state tells of.
func (t *tracker) found(e *entry, in inventory) {
	c := &container{Container: hook.Container{ID: e.id, Runtime: hook.Runtime{Name: e.state.runtime, Root: e.root},
		Bundle: e.state.bundle, Source: hook.FromListing, State: hook.Running, CreateTime: e.state.created}}
	if e.configErr != nil {
		c.Problem = e.configErr.Error()
	}
	c.setConfig(e.config)
	if !in.first {
		t.missed++
	}
	if !e.alive { // its pid may be another container's by now
		c.Init, t.byID[c.instance()] = e.init, c
		t.finish(c, in.at, nil, hook.ExitUnseen)
		return
	}
	t.setInit(c, e.init, in.at)
	if e.state.waiting {
		c.State = hook.Created
	}
	t.tell(c)
}
