package containerhook

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/runtimes"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
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
	var suspects map[tracker.Identity]bool
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
	in := tracker.Inventory{At: time.Now(), First: first}
	reply := make(chan map[tracker.Identity]bool, 1)
	h.sender(ctx)(tracker.Roll{Reply: reply})
	var known map[tracker.Identity]bool
	select {
	case <-ctx.Done():
		return
	case known = <-reply:
	}
	names := h.names()
	for l, err := range oci.List(h.host, oci.StatePatterns(h.o.StateRoots, h.o.Rootless), h.reads) {
		var e tracker.Entry
		var t task.Task
		if err == nil {
			e, t, err = h.examine(&l)
		}
		if err != nil {
			h.metrics.unread("state")
			in.Unread = append(in.Unread, unread(&l, err)...)
			continue
		}
		if !known[tracker.IdentityOf(e.Init)] {
			e.Name = names[e.Instance]
			h.describe(&e, &l)
			e.Alive = e.Alive && h.follow(t, l.State.Waiting) == nil // its pid may be another container's by now
		}
		in.Entries = append(in.Entries, e)
	}
	h.sender(ctx)(in)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed, h.unread = in.At, len(in.Unread)
}

// find is the inventory of one container: its start is held, and nobody has reported its create. It is empty where the host's
// state does not know that init.
func (h *Hook) find(of tracker.Instance, init hook.Process) tracker.Inventory {
	in := tracker.Inventory{At: time.Now(), First: h.Ready() != nil, Unread: []tracker.Instance{{}}}
	l, err := hostfs.Within(h.reads, of.Root+"/"+of.ID, func() (oci.Listed, error) { return oci.ReadListed(h.host, of.Root, of.ID) }, nil)
	var e tracker.Entry
	var t task.Task
	if err == nil {
		e, t, err = h.examine(&l)
	}
	if err != nil {
		h.metrics.unread("state")
		return in
	}
	if tracker.IdentityOf(e.Init) == tracker.IdentityOf(init) {
		e.Name = h.names()[of]
		h.describe(&e, &l)
		e.Alive = e.Alive && h.follow(t, l.State.Waiting) == nil
		in.Entries = append(in.Entries, e)
	}
	return in
}

// examine says what has become of a container that is listed.
func (h *Hook) examine(l *oci.Listed) (e tracker.Entry, t task.Task, err error) {
	e = tracker.Entry{Instance: tracker.Instance{Root: l.Root, ID: l.ID, UID: l.State.UID}, Runtime: l.State.Runtime, Bundle: l.State.Bundle, Created: l.State.Created,
		Waiting: l.State.Waiting, At: time.Now(),
		Init: hook.Process{PID: l.State.PID, StartTicks: l.State.StartTicks}}
	t, err = h.identify(l.State)
	switch {
	case isGone(err):
		return e, t, nil
	case err != nil:
		return e, t, err
	}
	if err := h.believe(l.State); err != nil {
		return e, t, hostfs.PathError("believe the state in", path.Join(l.Root, l.ID), err)
	}
	e.Init, e.Alive = t.Process(), true
	return e, t, nil
}

// unread says what an error of a listing hides.
func unread(l *oci.Listed, err error) []tracker.Instance {
	if errors.Is(err, oci.ErrBadID) {
		return nil // that is no container
	}
	return []tracker.Instance{{Root: l.Root, ID: l.ID}}
}

// describe adds what is reported of a container once, when it is new.
func (h *Hook) describe(e *tracker.Entry, l *oci.Listed) {
	if h.runtimes != nil {
		e.Path = h.runtimes.PathOf(l.State.Runtime)
	}
	err := l.ConfigErr
	if err == nil {
		e.Spec, err = oci.ParseConfig(l.Config, l.State.Runtime)
	}
	if err != nil {
		e.Problem = err.Error()
	}
}

// names are those that running conmons were given for their containers.
func (h *Hook) names() map[tracker.Instance]string {
	names := map[tracker.Instance]string{}
	all, _ := hostfs.Within(h.reads, h.hostProc, func() ([]oci.Command, error) { return slices.Collect(runtimes.Monitors(h.host, h.hostProc)), nil }, nil)
	for _, c := range all {
		if c.Name == "" {
			continue
		}
		root := c.Root
		if root == "" {
			root = oci.DefaultStateRoot(c.Runtime)
		}
		if located, err := hostfs.Within(h.reads, root, func() (string, error) { return h.host.RealDir(root) }, nil); err == nil {
			names[tracker.Instance{Root: located, ID: c.ID}] = c.Name // only root's are asked
		}
	}
	return names
}
