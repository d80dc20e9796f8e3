package containerhook

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/runtimes"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/event"
)

// Options are what a Hook needs to know. Only HostRoot, Session and Metrics have no default.
type Options struct {
	// HostRoot is where the host's root is seen from here: "/", or below a mount. Its procfs is HostRoot/proc.
	HostRoot string
	// Session is the connection to the gate, which holds the execs and has loaded the BPF programs. The caller closes it
	// after Run.
	Session *gate.Session
	// Metrics gets the figures of the hook.
	Metrics prometheus.Registerer
	// RuntimePaths are marked in addition to the usual ones: paths in the host's root, or base names.
	RuntimePaths []string
	// OnlyRuntimePaths leaves the usual ones out.
	OnlyRuntimePaths bool
	// StateRoots are listed in addition to the usual ones: state directories of runtimes (--root), as globs in the host's
	// root.
	StateRoots []string
	// ListEvery is the time between two listings of the runtimes' state on disk. Default 10 min.
	ListEvery time.Duration
	// Rootless has containers reported too whose runtime does not run as root in the initial user namespace.
	Rootless bool
}

const (
	// maxEnded is how many containers may end before a listing says which of them can be forgotten. They take about 1.5 KB
	// each.
	maxEnded = 1000
	// watchGateEvery is how often the gate's counts are looked at for events that no container came of.
	watchGateEvery = time.Second
)

// Hook sees the containers of one node. See the package's documentation for the data's way through it.
type Hook struct {
	o         Options
	metrics   *metrics
	reads     *hostfs.Reads
	queue     *queue
	status    *status
	processes *processes
	runtimes  *runtimes.Set // nil where nothing is held
}

// New checks the options and registers the metrics. Nothing is opened before Run.
func New(o Options) (*Hook, error) {
	if o.ListEvery == 0 {
		o.ListEvery = 10 * time.Minute
	}
	if !filepath.IsAbs(o.HostRoot) || o.Session == nil || o.Metrics == nil {
		return nil, errors.New("containerhook: HostRoot must be absolute, Session and Metrics must be set")
	}
	if o.ListEvery < 0 {
		return nil, errors.New("containerhook: ListEvery must be positive")
	}
	reads := hostfs.NewReads()
	if o.Session.Stats != nil {
		if err := o.Metrics.Register(gateCollector{o.Session.Stats}); err != nil {
			return nil, fmt.Errorf("register the gate's metrics: %w", err)
		}
	}
	m := newMetrics(o.Metrics, reads)
	return &Hook{o: o, metrics: m, reads: reads, queue: newQueue(m), status: new(status),
		processes: &processes{hostProc: filepath.Join(o.HostRoot, "proc"), programs: o.Session.Programs, rootless: o.Rootless, metrics: m}}, nil
}

// Run sees containers until ctx ends, or until the hook fails in a way that only a new process mends. known are the
// containers that the agent before this one had reported, each as it was then, since the node booted: they are reported
// again only where they have changed. handle gets every event, in order, from one goroutine: a container whose runtime is
// held at start is not started before handle returns, or the deadline is over.
//
// Where the node cannot be hooked it goes on by listing alone, and Degraded says why. When it returns, everything that
// it opened is closed.
func (h *Hook) Run(ctx context.Context, known []event.Container, handle func(event.Event)) (err error) {
	host, err := hostfs.Open(h.o.HostRoot)
	if err != nil {
		return fmt.Errorf("open the host's root: %w", err)
	}
	defer host.Close()
	held := h.o.Session.HookErr == nil
	if held {
		if h.runtimes, err = runtimes.New(h.o.runtimes(host, h.reads, h.o.Session, h.metrics)); err != nil {
			return err
		}
		defer h.runtimes.Close()
	}
	r := &reconciler{processes: h.processes, queue: h.queue, host: host, reads: h.reads, runtimes: h.runtimes, status: h.status,
		every: h.o.ListEvery, patterns: oci.StatePatterns(h.o.StateRoots, h.o.Rootless), isBlind: h.isBlind, restarts: h.o.Session.Restarts}
	i := &inspector{processes: h.processes, queue: h.queue, reads: h.reads, runtimes: h.runtimes, find: r.find,
		users: make(chan struct{}, maxUsers), waiting: semaphore.NewWeighted(maxWaiting)}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.track(ctx, r.resolve, handle) })
	// Before anything is read of what happened since: who ended would be nobody's, and a runtime's container a new one.
	r.resume(ctx, known)
	if t := h.o.Session.Programs.Tracer; t != nil {
		group.Go(func() error {
			return t.Run(ctx, func(e *bpf.TraceEvent) {
				if in := kernelInput(e, sinceBoot(e.Time)); in != nil {
					h.queue.send(ctx, in)
				}
			})
		})
	}
	// Pings are answered where nothing is held, too.
	group.Go(func() error { return h.o.Session.Serve(ctx, i.inspect, func() { h.queue.wantListing("panic") }) })
	if h.status.setHooked(h.o.Session.HookErr); held {
		h.runtimes.Discover()
		h.runtimes.Scan(ctx)
		group.Go(func() error { return h.runtimes.Run(ctx, func() { h.queue.wantListing("remarked") }) })
		group.Go(func() error { return h.watchGate(ctx) })
	}
	// What a worker finds after another one, which had reported the others, was missed in between.
	first := h.o.Session.Restarts == 0 || len(known) == 0
	group.Go(func() error { return r.run(ctx, first) })
	return group.Wait()
}

// runtimes are the options of those that are to be marked.
func (o *Options) runtimes(host *hostfs.Root, reads *hostfs.Reads, gate runtimes.Marker, m *metrics) runtimes.Options {
	return runtimes.Options{Host: host, HostProc: filepath.Join(o.HostRoot, "proc"), Reads: reads, Paths: o.RuntimePaths,
		Only: o.OnlyRuntimePaths, Gate: gate, Failed: m.unread, Marked: func(count int) { m.runtimes.Set(float64(count)) }}
}

// HostNamespaces are those of the host's process 1, to compare a container's with; zero where no program could be loaded.
// Safe for concurrent use.
func (h *Hook) HostNamespaces() event.Namespaces {
	lookup := h.o.Session.Programs.Lookup
	if lookup == nil {
		return event.Namespaces{}
	}
	return lookup.HostNamespaces
}

// track feeds the tracker, hands on what it says, and has its requests answered. It waits for nothing but handle.
func (h *Hook) track(ctx context.Context, resolve func(tracker.Instance) tracker.Resolved, handle func(event.Event)) error {
	t := tracker.New()
	counted := func(e event.Event) { // before it is seen that it was missed, it is counted
		h.count(t)
		handle(e)
	}
	var requests errgroup.Group
	requests.SetLimit(hostfs.MaxHanging)
	defer requests.Wait() //nolint:errcheck // they return none
	for {
		select {
		case <-ctx.Done():
			return nil
		case in := <-h.queue.inputs:
			for _, of := range advance(t, in, counted) {
				if !requests.TryGo(func() error { h.queue.send(ctx, resolve(of)); return nil }) {
					advance(t, tracker.Resolved{At: time.Now(), Of: of}, counted) // as one whose state does not answer
				}
			}
			h.count(t)
		}
	}
}

// advance feeds the tracker one input and hands on what it says. What is held at start goes on after that, not before: its
// container has been handled when its process begins. It returns whose inits are to be resolved.
func advance(t *tracker.Tracker, in tracker.Input, handle func(event.Event)) (wanted []tracker.Instance) {
	events, wanted := t.Step(in)
	for _, e := range events {
		handle(e)
	}
	for _, r := range t.Released {
		r.Done <- r.Unknown
	}
	return wanted
}

// count takes over what the tracker has counted.
func (h *Hook) count(t *tracker.Tracker) {
	if stats := h.o.Session.Stats; stats != nil {
		stats.Missed.Add(uint64(t.Missed))
	}
	t.Missed = 0
	if t.Ended >= maxEnded {
		t.Ended = 0
		h.queue.listSoon("ended")
	}
}

// watchGate has the node listed when the gate let something go that nobody looked at.
func (h *Hook) watchGate(ctx context.Context) error {
	stats := h.o.Session.Stats
	unseen := map[string]func() uint64{
		"over_limit": stats.Answered[gate.OverLimit].Load, "error": stats.Answered[gate.Error].Load,
		"timeout": stats.Answered[gate.Timeout].Load, "no_worker": stats.Answered[gate.NoWorker].Load,
		"overflow": stats.Overflows.Load,
	}
	seen := map[string]uint64{}
	tick := time.NewTicker(watchGateEvery)
	defer tick.Stop()
	for {
		for reason, count := range unseen {
			if n := count(); n != seen[reason] {
				seen[reason] = n
				h.queue.wantListing(reason)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Degraded is why the node is not hooked, nil where it is. Safe for concurrent use.
func (h *Hook) Degraded() error {
	_, why := h.status.isHooked()
	return why
}

// Status is how the hook does. Safe for concurrent use.
func (h *Hook) Status() event.Status {
	s := event.Status{Degraded: h.Degraded(), NotReady: h.Ready(), Hanging: h.reads.Hanging()}
	if stats := h.o.Session.Stats; stats != nil {
		s.Missed, s.Late = int64(stats.Missed.Load()), int64(stats.Answered[gate.Timeout].Load())
	}
	s.Listed, s.Unread = h.status.lastListing()
	if hooked, _ := h.status.isHooked(); hooked && h.runtimes != nil {
		s.Runtimes, s.Unheld = h.runtimes.Paths(), h.runtimes.Unheld()
	}
	return s
}

// isBlind reports whether some runtime, or all, are not held: then listings are all that finds their containers.
func (h *Hook) isBlind() bool {
	s := h.Status()
	return s.Degraded != nil || len(s.Runtimes) == 0 || len(s.Unheld) > 0
}

// Healthy is an error where the gate has not answered lately, which it proves twice a second by an event of its own. A
// node that is not hooked at all is healthy; see Degraded. Safe for concurrent use.
func (h *Hook) Healthy() error {
	hooked, _ := h.status.isHooked()
	if stats := h.o.Session.Stats; hooked && stats != nil {
		if age := time.Since(time.Unix(0, stats.LastBeat.Load())); age > gate.HealthTimeout {
			return fmt.Errorf("the gate answered last %v ago", age.Round(time.Millisecond))
		}
	}
	return nil
}

// Ready is an error until the runtimes are marked, or cannot be, and the node was listed. Safe for concurrent use.
func (h *Hook) Ready() error { return h.status.ready() }
