package containerhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/hook"
)

// Options are what a Hook needs to know. Only HostRoot, Handler and Metrics have no default.
type Options struct {
	// HostRoot is where the host's root is seen from here: "/", or below a mount. Its procfs is HostRoot/proc.
	HostRoot string
	// Handler is told every event, in order, by one goroutine. A container whose runtime is held at start is not started
	// before it returns, or the deadline is over.
	Handler func(hook.Event)
	// Metrics gets the figures of the hook.
	Metrics prometheus.Registerer
	// RuntimePaths are marked besides the usual ones: paths in the host's root, or base names.
	RuntimePaths []string
	// OnlyRuntimePaths leaves the usual ones out.
	OnlyRuntimePaths bool
	// StateRoots are listed besides the usual ones: state directories of runtimes (--root), as globs in the host's root.
	StateRoots []string
	// Deadline is the longest that any exec is held. Default 200 ms.
	Deadline time.Duration
	// ListEvery is the time between two listings of the runtimes' state on disk. Default 10 min.
	ListEvery time.Duration
	// Rootless has containers told too whose runtime does not run as root in the initial user namespace.
	Rootless bool
	// HookOff leaves the runtimes alone: containers are found by listing only.
	HookOff bool
	// Known are the containers that the agent before this one had told of, each as it was then, since the node booted.
	// They are told again only where they have changed.
	Known []hook.Container
}

const (
	// maxHeld is how many execs are looked at at once; the next one is allowed unseen. A node starts a few at a time.
	maxHeld = 256
	// maxUsers is the same for whoever is not root: they cannot crowd root's out.
	maxUsers = 16
	// maxWaiting is how many bytes of their config.jsons may wait for the tracker: four of the largest, hundreds of usual ones.
	maxWaiting = 4 * maxConfig
	// maxEnded is how many containers may end before a listing says which of them can be forgotten. They take about 1.5 KB
	// each.
	maxEnded = 1000
	// silence is how old the last answer may be before Healthy says so: the kernel ends the process a little later.
	silence = beatDeadline - beatEvery/2
)

// errHookOff is why nothing is held where the options say so.
var errHookOff = errors.New("the hook is switched off")

// Hook sees the containers of one node. See the package's documentation for the data's way through it.
type Hook struct {
	o        Options
	metrics  *metrics
	hostProc string
	host     *root
	inputs   chan input
	relist   chan string // why a listing is wanted soon
	slots    chan struct{}
	users    chan struct{}       // the slots of everybody but root
	waiting  *semaphore.Weighted // bytes of their config.jsons that wait for the tracker
	beat     *heartbeat

	// Opened by Run, and nil where the node cannot be hooked.
	who      *who
	argv     *argvReader
	life     *life
	gate     *gate
	runtimes *runtimes

	mu     sync.Mutex
	hooked bool
	why    error // the node cannot be hooked
	listed time.Time
	unread int // by that listing
}

// New checks the options and registers the metrics. Nothing is opened before Run.
func New(o Options) (*Hook, error) {
	if o.Deadline == 0 {
		o.Deadline = 200 * time.Millisecond
	}
	if o.ListEvery == 0 {
		o.ListEvery = 10 * time.Minute
	}
	if !filepath.IsAbs(o.HostRoot) || o.Handler == nil || o.Metrics == nil {
		return nil, errors.New("containerhook: HostRoot must be absolute, Handler and Metrics must be set")
	}
	if o.Deadline < 0 || o.Deadline >= beatDeadline || o.ListEvery < 0 {
		return nil, fmt.Errorf("containerhook: Deadline must be under %v, ListEvery positive", beatDeadline)
	}
	return &Hook{o: o, metrics: newMetrics(o.Metrics), hostProc: filepath.Join(o.HostRoot, "proc"),
		inputs: make(chan input, maxHeld), relist: make(chan string, 1), slots: make(chan struct{}, maxHeld),
		users: make(chan struct{}, maxUsers), waiting: semaphore.NewWeighted(maxWaiting), beat: newHeartbeat()}, nil
}

// Run sees containers until ctx ends, or until the hook fails in a way that only a new process mends. Where the node
// cannot be hooked it goes on by listing alone, and Degraded says why. When it returns, nothing is held and everything
// that it opened is closed.
func (h *Hook) Run(ctx context.Context) (err error) {
	if h.host, err = openRoot(h.o.HostRoot); err != nil {
		return fmt.Errorf("open the host's root: %w", err)
	}
	defer h.host.Close()
	closers, hookErr := h.open()
	defer func() {
		for _, c := range closers {
			err = errors.Join(err, c.Close())
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.track(ctx) })
	h.resume(ctx) // before a runtime is held whose container would be taken for a new one
	if hookErr == nil {
		hookErr = h.hold(ctx, group)
	}
	h.setHooked(hookErr)
	if hookErr != nil {
		logr.FromContextOrDiscard(ctx).Info("The node is not hooked: containers are found by listing", "why", hookErr.Error())
	}
	group.Go(func() error { return h.keepListed(ctx) })
	return group.Wait()
}

// open loads and opens all that the hook needs, and returns what has to be closed, in that order.
func (h *Hook) open() (closers []io.Closer, err error) {
	if h.o.HookOff {
		return nil, errHookOff
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 maps count as locked memory
		return nil, fmt.Errorf("lift the limit of locked memory: %w", err)
	}
	opened := func(c io.Closer) { closers = append([]io.Closer{c}, closers...) }
	if h.who, err = newWho(h.hostProc); err != nil {
		return closers, err
	}
	opened(h.who)
	h.argv, _ = newArgvReader(h.hostProc) // the slower way serves as well
	opened(h.argv)
	if h.life, err = openLife(h.who); err != nil {
		return closers, err
	}
	opened(h.life)
	if h.gate, err = openGate(h.who, h.o.Deadline, h.metrics); err != nil {
		return closers, err
	}
	opened(h.gate)
	if err = h.beat.open(); err != nil {
		return closers, err
	}
	opened(h.beat)
	if h.runtimes, err = newRuntimes(h.host, h.o, h.gate, h.metrics); err != nil {
		return closers, err
	}
	opened(h.runtimes)
	return closers, nil
}

// hold starts the readers, proves that the gate answers, and only then marks the runtimes.
func (h *Hook) hold(ctx context.Context, group *errgroup.Group) error {
	if err := h.gate.mark(h.beat.file, unix.FAN_OPEN_PERM); err != nil {
		return fmt.Errorf("mark the heartbeat file: %w", err)
	}
	group.Go(func() error {
		return h.gate.run(ctx, func(held *held) { h.inspect(ctx, held) }, func() { h.wantListing("overflow") })
	})
	group.Go(func() error { return h.life.run(ctx, h.sender(ctx)) })
	group.Go(func() error { return h.beat.run(ctx) })
	select {
	case <-h.beat.first:
	case <-ctx.Done():
		return ctx.Err()
	}
	h.runtimes.discover()
	h.runtimes.scan()
	group.Go(func() error { return h.runtimes.run(ctx, func() { h.wantListing("remarked") }) })
	return nil
}

// HostNamespaces are those of the host's process 1, to compare a container's with; zero where the node is not hooked. It
// is for the Handler to call.
func (h *Hook) HostNamespaces() hook.Namespaces {
	if h.who == nil {
		return hook.Namespaces{}
	}
	return h.who.hostNamespaces
}

// track feeds the tracker and tells what it says, in one goroutine.
func (h *Hook) track(ctx context.Context) error {
	t := newTracker(h.adopt)
	tell := func(in input) {
		for _, e := range t.step(in) {
			h.o.Handler(e)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case in := <-h.inputs:
			s, isStart := in.(starting)
			if isStart && t.misses(s) { // made before the agent, or in a gap: told before its process begins
				tell(h.find(s.of, s.init))
			}
			tell(in)
			if isStart {
				close(s.done)
			}
			if c, ok := in.(created); ok && c.uid != 0 {
				h.waiting.Release(int64(len(c.config)))
			}
			h.count(t)
		}
	}
}

// count takes over what the tracker has counted.
func (h *Hook) count(t *tracker) {
	h.metrics.missed.Add(float64(t.missed))
	h.metrics.lookups.WithLabelValues("config").Add(float64(t.unparsed))
	t.missed, t.unparsed = 0, 0
	if t.ended >= maxEnded {
		t.ended = 0
		h.listSoon("ended")
	}
}

// sender gives an input to track, unless ctx has ended.
func (h *Hook) sender(ctx context.Context) func(input) {
	return func(in input) {
		select {
		case h.inputs <- in:
		case <-ctx.Done():
		}
	}
}

// wantListing has the node listed soon, and counts why. Safe for concurrent use; never blocks.
func (h *Hook) wantListing(why string) {
	h.metrics.gap(why)
	h.listSoon(why)
}

// listSoon is wantListing where nothing can have been missed.
func (h *Hook) listSoon(why string) {
	select {
	case h.relist <- why:
	default: // one is wanted already
	}
}

func (h *Hook) setHooked(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hooked, h.why = why == nil, why
}

// Degraded is why the node is not hooked, nil where it is. Safe for concurrent use.
func (h *Hook) Degraded() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

// Status is how the hook does. Safe for concurrent use.
func (h *Hook) Status() hook.Status {
	s := hook.Status{Degraded: h.Degraded(), NotReady: h.Ready(), Missed: count(h.metrics.missed), Late: count(h.metrics.late)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Listed, s.Unread = h.listed, h.unread
	if h.hooked {
		s.Runtimes = h.runtimes.paths()
	}
	return s
}

// Healthy is an error where the gate has not answered lately: it proves so twice a second by an event of its own. A node
// that is not hooked at all is healthy; see Degraded. Safe for concurrent use.
func (h *Hook) Healthy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age := h.beat.age(); h.hooked && age > silence {
		return fmt.Errorf("the gate answered last %v ago", age.Round(time.Millisecond))
	}
	return nil
}

// Ready is an error until the runtimes are marked, or cannot be, and the node was listed. Safe for concurrent use.
func (h *Hook) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listed.IsZero() {
		return errors.New("the node has not been listed yet")
	}
	return nil
}
