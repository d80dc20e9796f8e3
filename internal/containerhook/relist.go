package containerhook

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/hook"
)

const (
	// sweepEvery bounds how long the end of a container can go unseen that the kernel did not report.
	sweepEvery = 10 * time.Second
	// settle lets what was started in a gap get into its runtime's state before it is listed, and bounds how often a
	// storm of reasons has the node listed.
	settle = time.Second
)

var errNotTheirs = errors.New("a user's state names a process that is not that user's, or rootless ones are not asked for")

// keepListed lists the node at once, every ListEvery, soon after a reason to, and where not all runtimes are held every
// sweepEvery; and sweeps the dead in between. first says
// that nobody has listed it before: what is found was not missed then.
func (h *Hook) keepListed(ctx context.Context, first bool) error {
	h.list(ctx, first)
	list, sweep := time.NewTicker(h.o.ListEvery), time.NewTicker(sweepEvery)
	defer list.Stop()
	defer sweep.Stop()
	again := true // what was being made in a gap, or as we began, may get into its runtime's state after the listing
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
			again = true
		case <-sweep.C:
			suspects = h.sweep(ctx, suspects)
			if h.programs.Tracer != nil && h.programs.Tracer.Lost() != lost {
				lost = h.programs.Tracer.Lost()
				h.wantListing("events_lost")
			}
			if again || h.isBlind() {
				h.list(ctx, false)
				again = false
			}
		}
	}
}

// list takes the inventory of the node and gives it to the tracker.
func (h *Hook) list(ctx context.Context, first bool) {
	in := inventory{at: time.Now(), first: first}
	reply := make(chan map[identity]bool, 1)
	h.sender(ctx)(roll{reply})
	var known map[identity]bool
	select {
	case <-ctx.Done():
		return
	case known = <-reply:
	}
	names := h.names()
	for l, err := range list(h.host, h.o.statePatterns(), h.reads) {
		var e entry
		var t task.Task
		if err == nil {
			e, t, err = h.examine(&l)
		}
		if err != nil {
			h.metrics.unread("state")
			in.unread = append(in.unread, unread(&l, err)...)
			continue
		}
		if !known[identityOf(e.init)] {
			e.name = names[e.instance]
			h.describe(&e, &l)
			e.alive = e.alive && h.follow(t, l.state.waiting) == nil // its pid may be another container's by now
		}
		in.entries = append(in.entries, e)
	}
	h.sender(ctx)(in)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed, h.unread = in.at, len(in.unread)
}

// find is the inventory of one container: its start is held, and nobody has reported its create. It is empty where the host's
// state does not know that init.
func (h *Hook) find(of instance, init hook.Process) inventory {
	in := inventory{at: time.Now(), first: h.Ready() != nil, unread: []instance{{}}}
	l, err := within(h.reads, of.root+"/"+of.id, func() (listed, error) { return readListed(h.host, of.root, of.id) }, nil)
	var e entry
	var t task.Task
	if err == nil {
		e, t, err = h.examine(&l)
	}
	if err != nil {
		h.metrics.unread("state")
		return in
	}
	if identityOf(e.init) == identityOf(init) {
		e.name = h.names()[of]
		h.describe(&e, &l)
		e.alive = e.alive && h.follow(t, l.state.waiting) == nil
		in.entries = append(in.entries, e)
	}
	return in
}

// examine says what has become of a container that is listed.
func (h *Hook) examine(l *listed) (e entry, t task.Task, err error) {
	e = entry{instance: instance{l.root, l.id, l.state.uid}, state: l.state, at: time.Now(),
		init: hook.Process{PID: l.state.pid, StartTicks: l.state.startTicks}}
	t, err = h.identify(l.state)
	switch {
	case isGone(err):
		return e, t, nil
	case err != nil:
		return e, t, err
	}
	if err := h.believe(l.state); err != nil {
		return e, t, pathError("believe the state in", path.Join(l.root, l.id), err)
	}
	e.init, e.alive = t.Process(), true
	return e, t, nil
}

// describe adds what is reported of a container once, when it is new.
func (h *Hook) describe(e *entry, l *listed) {
	if h.runtimes != nil {
		e.path = h.runtimes.pathOf(l.state.runtime)
	}
	err := l.configErr
	if err == nil {
		e.spec, err = parseConfig(l.config, l.state.runtime)
	}
	if err != nil {
		e.problem = err.Error()
	}
}

// names are those that running conmons were given for their containers.
func (h *Hook) names() map[instance]string {
	names := map[instance]string{}
	all, _ := within(h.reads, h.hostProc, func() ([]command, error) { return slices.Collect(monitors(h.host, h.hostProc)), nil }, nil)
	for _, c := range all {
		if c.name == "" {
			continue
		}
		root := c.root
		if root == "" {
			root = defaultStateRoot(c.runtime)
		}
		if located, err := within(h.reads, root, func() (string, error) { return h.host.realDir(root) }, nil); err == nil {
			names[instance{root: located, id: c.id}] = c.name // only root's are asked
		}
	}
	return names
}
