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
	"github.com/containerhook/containerhook/internal/event"
)

const (
	// sweepEvery bounds how long the end of a container can go unseen that the kernel did not report.
	sweepEvery = 10 * time.Second
	// settle lets what was started in a gap get into its runtime's state before it is listed, and bounds how often a
	// storm of reasons has the node listed.
	settle = time.Second
)

// reconciler keeps what the tracker knows equal to what is there: by the runtimes' state on disk, and by looking whether
// who should live does.
type reconciler struct {
	*processes
	queue    *queue
	host     *hostfs.Root
	reads    *hostfs.Reads
	runtimes *runtimes.Set // nil where nothing is held
	status   *status
	every    time.Duration // between two listings
	patterns []string      // of state directories
	isBlind  func() bool   // some runtime, or all, are not held
	restarts int           // workers before this one
}

// run lists the node at once, every so often, soon after a reason to, and where not all runtimes are held every sweepEvery;
// and sweeps the dead in between. first says that nobody has listed it before: what is found was not missed then.
func (r *reconciler) run(ctx context.Context, first bool) error {
	r.list(ctx, first)
	list, sweep := time.NewTicker(r.every), time.NewTicker(sweepEvery)
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
			r.list(ctx, false)
		case <-r.queue.relist:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
			r.list(ctx, false)
			again = true
		case <-sweep.C:
			suspects = r.sweep(ctx, suspects)
			if r.programs.Tracer != nil && r.programs.Tracer.Lost() != lost {
				lost = r.programs.Tracer.Lost()
				r.queue.wantListing("events_lost")
			}
			if again || r.isBlind() {
				r.list(ctx, false)
				again = false
			}
		}
	}
}

// list takes the inventory of the node and gives it to the tracker.
func (r *reconciler) list(ctx context.Context, first bool) {
	in := tracker.Inventory{At: time.Now(), First: first}
	reply := make(chan map[tracker.Identity]bool, 1)
	r.queue.send(ctx, tracker.Roll{Reply: reply})
	var known map[tracker.Identity]bool
	select {
	case <-ctx.Done():
		return
	case known = <-reply:
	}
	names := r.names()
	for l, err := range oci.List(r.host, r.patterns, r.reads) {
		var e tracker.Entry
		var t task.Task
		if err == nil {
			e, t, err = r.examine(&l)
		}
		if err != nil {
			r.metrics.unread("state")
			in.Unread = append(in.Unread, unread(&l, err)...)
			continue
		}
		if !known[tracker.IdentityOf(e.Init)] {
			e.Name = names[e.Instance]
			r.describe(&e, &l)
			e.Alive = e.Alive && r.follow(t, l.State.Waiting) == nil // its pid may be another container's by now
		}
		in.Entries = append(in.Entries, e)
	}
	r.queue.send(ctx, in)
	r.status.setListed(in.At, len(in.Unread))
}

// find is the inventory of one container: its start is held, and nobody has reported its create. It is empty where the host's
// state does not know that init.
func (r *reconciler) find(of tracker.Instance, init event.Process) tracker.Inventory {
	in := tracker.Inventory{At: time.Now(), First: r.status.ready() != nil, Unread: []tracker.Instance{{}}}
	l, err := hostfs.Within(r.reads, of.Root+"/"+of.ID, func() (oci.Listed, error) { return oci.ReadListed(r.host, of.Root, of.ID) }, nil)
	var e tracker.Entry
	var t task.Task
	if err == nil {
		e, t, err = r.examine(&l)
	}
	if err != nil {
		r.metrics.unread("state")
		return in
	}
	if tracker.IdentityOf(e.Init) == tracker.IdentityOf(init) {
		e.Name = r.names()[of]
		r.describe(&e, &l)
		e.Alive = e.Alive && r.follow(t, l.State.Waiting) == nil
		in.Entries = append(in.Entries, e)
	}
	return in
}

// examine says what has become of a container that is listed.
func (r *reconciler) examine(l *oci.Listed) (e tracker.Entry, t task.Task, err error) {
	e = tracker.Entry{Instance: tracker.Instance{Root: l.Root, ID: l.ID, UID: l.State.UID}, Runtime: l.State.Runtime, Bundle: l.State.Bundle, Created: l.State.Created,
		Waiting: l.State.Waiting, At: time.Now(),
		Init: event.Process{PID: l.State.PID, StartTicks: l.State.StartTicks}}
	t, err = r.identify(l.State)
	switch {
	case isGone(err):
		return e, t, nil
	case err != nil:
		return e, t, err
	}
	if err := r.believe(l.State); err != nil {
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
func (r *reconciler) describe(e *tracker.Entry, l *oci.Listed) {
	if r.runtimes != nil {
		e.Path = r.runtimes.PathOf(l.State.Runtime)
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
func (r *reconciler) names() map[tracker.Instance]string {
	names := map[tracker.Instance]string{}
	all, _ := hostfs.Within(r.reads, r.hostProc, func() ([]oci.Command, error) { return slices.Collect(runtimes.Monitors(r.host, r.hostProc)), nil }, nil)
	for _, c := range all {
		if c.Name == "" {
			continue
		}
		root := c.Root
		if root == "" {
			root = oci.DefaultStateRoot(c.Runtime)
		}
		if located, err := hostfs.Within(r.reads, root, func() (string, error) { return r.host.RealDir(root) }, nil); err == nil {
			names[tracker.Instance{Root: located, ID: c.ID}] = c.Name // only root's are asked
		}
	}
	return names
}

// sweep finds runtimes and inits that died unseen. One that is dead in two sweeps is: what the kernel reported has been
// heard by then.
func (r *reconciler) sweep(ctx context.Context, suspects map[tracker.Identity]bool) map[tracker.Identity]bool {
	reply := make(chan []tracker.Vanished, 1)
	r.queue.send(ctx, tracker.Census{Reply: reply})
	dead := map[tracker.Identity]bool{}
	select {
	case <-ctx.Done():
	case live := <-reply:
		for _, in := range live {
			t, err := r.look(in.Process.PID)
			if err == nil && tracker.IdentityOf(t.Process()) == tracker.IdentityOf(in.Process) || err != nil && !isGone(err) {
				continue
			}
			id := tracker.IdentityOf(in.Process)
			if dead[id] = true; suspects[id] {
				in.At = time.Now()
				r.queue.send(ctx, in)
			}
		}
	}
	return dead
}

// resolve answers the tracker's request for an init: as the runtime's state names it, and the kernel describes it. From
// then on its end is reported.
func (r *reconciler) resolve(of tracker.Instance) tracker.Resolved {
	in := tracker.Resolved{Of: of}
	state, err := r.readState(of.Root, of.ID)
	if err == nil && state.UID == of.UID {
		var t task.Task
		if t, err = r.identify(state); err == nil && r.believe(state) == nil && r.follow(t, state.Waiting) == nil {
			in.Init, in.Waiting = t.Process(), state.Waiting
		}
	}
	in.At = time.Now()
	return in
}

// readState reads what a runtime keeps of a container in the host's root, and waits a second for it at most.
func (r *reconciler) readState(root, id string) (oci.State, error) {
	return hostfs.Within(r.reads, root+"/"+id, func() (oci.State, error) { return oci.ReadState(r.host, root, id) }, nil)
}

// resume takes up what the agent before this one had known.
func (r *reconciler) resume(ctx context.Context, known []event.Container) {
	for _, c := range known {
		in := tracker.Resumed{At: time.Now(), Container: c}
		if c.Rootless { // whose it is, its state says
			state, _ := r.readState(c.Runtime.Root, c.ID)
			in.UID = state.UID
		}
		if c.State != event.Stopped && c.Init.PID != 0 {
			t, err := r.look(c.Init.PID)
			switch {
			case err == nil:
				in.Alive = tracker.IdentityOf(t.Process()) == tracker.IdentityOf(c.Init) && r.follow(t, c.State != event.Running) == nil
			default:
				in.Alive = !isGone(err) // the sweep will see
			}
			// The tracer went on without a worker: how this one ended may be waiting to be read.
			in.Alive = in.Alive || r.restarts > 0 && r.programs.Tracer != nil
		}
		r.queue.send(ctx, in)
	}
}
