package containerhook

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/containerhook/containerhook/internal/hook"
)

const (
	// sweepEvery bounds how long the end of a container can go unseen that the kernel did not tell of.
	sweepEvery = 10 * time.Second
	// settle lets what was started in a gap get into its runtime's state before it is listed, and bounds how often a
	// storm of reasons has the node listed.
	settle = time.Second
)

var errNotTheirs = errors.New("a user's state names a process that is not that user's, or rootless ones are not asked for")

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
			if h.life != nil && h.life.lost() != lost {
				lost = h.life.lost()
				h.wantListing("events_lost")
			}
			if again {
				h.list(ctx, false)
				again = false
			}
		}
	}
}

// list takes the inventory of the node and gives it to the tracker.
func (h *Hook) list(ctx context.Context, first bool) {
	in := inventory{at: time.Now(), first: first, follow: h.follow}
	reply := make(chan map[identity]bool, 1)
	h.sender(ctx)(roll{reply})
	var known map[identity]bool
	select {
	case <-ctx.Done():
		return
	case known = <-reply:
	}
	patterns := append(slices.Clone(defaultStateRoots), h.o.StateRoots...)
	if h.o.Rootless {
		patterns = append(patterns, rootlessStateRoots...)
	}
	names := h.names()
	for l, err := range list(h.host, patterns) {
		var e entry
		if err == nil {
			e, err = h.examine(&l)
		}
		if err != nil {
			h.metrics.unread("state")
			in.unread = append(in.unread, unread(&l, err)...)
			continue
		}
		if !known[identityOf(e.init)] {
			e.name = names[e.instance]
			h.describe(&e, &l)
		}
		in.entries = append(in.entries, e)
	}
	h.sender(ctx)(in)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed, h.unread = in.at, len(in.unread)
}

// find is the inventory of one container: its start is held, and nobody told of its create. It is empty where the host's
// state does not know that init.
func (h *Hook) find(of instance, init hook.Process) inventory {
	in := inventory{at: time.Now(), first: h.Ready() != nil, follow: h.follow, unread: []instance{{}}}
	l, err := readListed(h.host, of.root, of.id)
	var e entry
	if err == nil {
		e, err = h.examine(&l)
	}
	if err != nil {
		h.metrics.unread("state")
		return in
	}
	if identityOf(e.init) == identityOf(init) {
		e.name = h.names()[of]
		h.describe(&e, &l)
		in.entries = append(in.entries, e)
	}
	return in
}

// examine says what has become of a container that is listed.
func (h *Hook) examine(l *listed) (e entry, err error) {
	e = entry{instance: instance{l.root, l.id, l.state.uid}, state: l.state, at: time.Now(),
		init: hook.Process{PID: l.state.pid, StartTicks: l.state.startTicks}}
	t, err := h.identify(l.state)
	switch {
	case isGone(err):
		return e, nil
	case err != nil:
		return e, err
	}
	if err := h.believe(l.state); err != nil {
		return e, pathError("believe the state in", path.Join(l.root, l.id), err)
	}
	e.init, e.task, e.alive = t.process(), t, true
	return e, nil
}

// describe adds what is told of a container once, when it is new.
func (h *Hook) describe(e *entry, l *listed) {
	if h.runtimes != nil {
		e.path = h.runtimes.pathOf(l.state.runtime)
	}
	err := l.configErr
	if err == nil {
		e.spec, err = parseConfig(l.config)
	}
	if err != nil {
		e.problem = err.Error()
	}
}

// names are those that running conmons were given for their containers.
func (h *Hook) names() map[instance]string {
	names := map[instance]string{}
	for c := range monitors(h.host, h.hostProc) {
		if c.name == "" {
			continue
		}
		root := c.root
		if root == "" {
			root = defaultStateRoot(c.runtime)
		}
		if located, err := h.host.realDir(root); err == nil {
			names[instance{root: located, id: c.id}] = c.name // only root's are asked
		}
	}
	return names
}
