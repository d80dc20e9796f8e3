package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// Options are what a Gate needs to know. Only HostProc has no default.
type Options struct {
	// HostProc is the host's procfs, as a directory.
	HostProc string
	// Deadline is the longest that any exec is held. Default 200 ms.
	Deadline time.Duration
	// Rootless has execs of users asked about too, at most maxUsers at once.
	Rootless bool
	// Files are passed to each worker: what a next one could not open while one that cannot end has it, as a port. Each may
	// be nil.
	Files []*os.File
}

const (
	// maxHeld is how many execs wait for the worker at once; the next one is allowed unseen. A node starts a few at a time.
	maxHeld = 256
	// maxUsers is the same for users: they cannot crowd root's out.
	maxUsers = 16
	// spareDescriptors is how many descriptors besides those of held execs the gate may need: its own, and two for each
	// mark. fanotify denies an exec when it finds no descriptor for its event.
	spareDescriptors = 256
)

// Gate owns the fanotify group and answers each of its events. See the package's documentation.
type Gate struct {
	o     Options
	stats *Stats
	page  *os.File // of stats

	// Opened by New; nil where the kernel or a privilege lacks, and then hookErr or tracerErr says what.
	group     *group
	lookup    *task.Lookup
	ofEvent   func(group, event int) (task.Task, error) // who waits
	isReexec  func(pid uint32) bool                     // a runtime's child
	beat      *heartbeat
	programs  task.Programs // the worker's
	hookErr   error
	tracerErr error
	filterErr error // every exec is the worker's to look at
	closers   []io.Closer

	wake   int        // eventfd: something is in peers, or the context has ended
	peers  chan *peer // from the supervisor to the loop
	hung   chan *peer // from the loop to the supervisor: a worker that reads nothing
	waiter *waiter
	// The loop's alone.
	held  heldQueue
	peer  *peer // nil without a worker
	marks map[inode]*mark
	limit int // of held
	inbox mailbox
}

// New opens all that the gate needs, and nothing after it. What cannot be opened is no error: workers learn of it, and
// find containers without.
func New(o Options) (*Gate, error) {
	if o.Deadline == 0 {
		o.Deadline = 200 * time.Millisecond
	}
	if o.Deadline < 0 || o.Deadline >= BeatDeadline {
		return nil, fmt.Errorf("gate: Deadline must be under %v", BeatDeadline)
	}
	g := &Gate{o: o, peers: make(chan *peer, 1), hung: make(chan *peer, 1), marks: map[inode]*mark{}, held: newHeldQueue()}
	if _, err := pollerFDs(); err != nil {
		return nil, err
	}
	var err error
	if g.stats, g.page, err = newStats(); err != nil {
		return nil, err
	}
	if g.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	if g.waiter, err = newWaiter(); err != nil {
		return nil, err
	}
	g.opened(g.waiter)
	if err := g.waiter.add(g.wake); err != nil {
		return nil, err
	}

	// Without the tracer a hook is of no use: nothing would say what became of what is held. The other way round it is.
	kernel, err := task.KernelTypes()
	if err == nil {
		err = g.openPrograms(kernel)
	}
	if g.tracerErr, g.hookErr = err, err; err == nil {
		g.hookErr = g.openGroup(kernel)
	}
	_, _ = time.Now().Zone() // reads the time zone, which a log entry would do later
	debug.FreeOSMemory()     // the kernel's types, which were needed to load the programs only
	return g, nil
}

// openPrograms loads the programs: each lookup twice, for its answer is for one process at a time.
func (g *Gate) openPrograms(kernel *btf.Spec) (err error) {
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 maps count as locked memory
		return fmt.Errorf("lift the limit of locked memory: %w", err)
	}
	if g.lookup, err = task.OpenLookup(g.o.HostProc, kernel); err != nil {
		return err
	}
	g.opened(g.lookup)
	if g.programs.Lookup, err = task.OpenLookup(g.o.HostProc, kernel); err != nil {
		return err
	}
	g.opened(g.programs.Lookup)
	g.programs.Argv, _ = task.OpenArgvReader(g.o.HostProc, kernel) // the slower way serves as well
	g.opened(g.programs.Argv)

	if g.programs.Tracer, err = task.OpenTracer(g.lookup, kernel); err != nil {
		return err
	}
	g.opened(g.programs.Tracer)
	g.ofEvent, g.isReexec = g.lookup.OfEvent, g.programs.Tracer.IsRuntimeChild
	return nil
}

func (g *Gate) openGroup(kernel *btf.Spec) (err error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if g.limit = min(maxHeld, int(min(files.Cur, 1<<30))-spareDescriptors); g.limit < 1 {
		return fmt.Errorf("the limit of open files, %d, is too low: %d are needed", files.Cur, spareDescriptors+1)
	}
	if g.group, err = openGroup(); err != nil {
		return err
	}
	g.opened(g.group)
	if err := g.waiter.add(g.group.fd); err != nil {
		return err
	}
	if filter, err := task.OpenFilter(g.lookup, g.group.fd, kernel); err == nil {
		g.opened(filter)
	} else {
		g.filterErr = err
	}
	g.beat, err = newHeartbeat(g.group, g.stats)
	return err
}

func (g *Gate) opened(c io.Closer) { g.closers = append([]io.Closer{c}, g.closers...) }

// Run keeps the gate and its worker running until ctx ends: the worker is this program once more, with the same
// arguments. It returns an error where only a new process helps, among them the *ExitError of a worker that could not
// begin. When it returns, nothing is held.
func (g *Gate) Run(ctx context.Context) error {
	defer func() {
		for _, c := range g.closers {
			_ = c.Close() // what is only read has nothing to lose
		}
	}()
	lockMemory(ctx)
	if err := runRealtime(); err != nil {
		logr.FromContextOrDiscard(ctx).Info("Not running as realtime: where the node has more work than CPUs, execs of runtimes wait for it", "why", err.Error())
	}

	// The loop outlives the worker: what that holds until its end is answered.
	loopContext, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, groupContext := errgroup.WithContext(loopContext)
	group.Go(func() error { return g.loop(groupContext) })
	context.AfterFunc(groupContext, g.wakeUp)
	if g.hookErr == nil {
		group.Go(func() error { return g.beat.run(groupContext) })
		select {
		case <-g.beat.first: // only a gate that answers may get marks
		case <-groupContext.Done():
		}
	} else {
		logr.FromContextOrDiscard(ctx).Error(g.hookErr, "Cannot hold runtimes: containers are found by listing")
	}
	if g.filterErr != nil {
		logr.FromContextOrDiscard(ctx).V(1).Info("The worker looks at every exec of a runtime", "why", g.filterErr.Error())
	}

	group.Go(func() error {
		defer stop()
		merged, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(groupContext, cancel)()
		return g.supervise(merged)
	})
	return group.Wait()
}

// loop reads events and messages, and answers. It is one goroutine, the only one that reads and answers the group.
func (g *Gate) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		ready, err := g.waiter.wait(g.held.len() == 1 && runtime.NumCPU() > 1)
		if err != nil {
			return err
		}

		// Answers first: they are what somebody waits for.
		for _, e := range ready {
			if p := g.peer; p != nil && e.Fd == int32(p.fd) {
				g.receive()
			}
		}
		now := monotonic()
		g.expire(now)
		for _, e := range ready {
			switch p := g.peer; {
			case p != nil && e.Fd == int32(p.life):
				g.drop(p)
			case e.Fd == int32(g.wake):
				if err := g.adopt(); err != nil {
					return err
				}
			case g.group != nil && e.Fd == int32(g.group.fd):
				if err := g.readEvents(); err != nil {
					return err
				}
			}
		}

		wake := now + pingEvery
		if at, ok := g.held.next(); ok {
			wake = min(wake, at)
		}
		if g.peer != nil {
			wake = min(wake, g.peer.nudge(now))
		}
		g.waiter.wakeAt(wake)
	}
	g.drop(g.peer)
	if g.group != nil {
		g.group.Close() // the heartbeat may wait for an answer that nobody gives any more
	}
	return nil
}

func (g *Gate) wakeUp() { _, _ = unix.Write(g.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// readEvents reads what the kernel has, some at a time: messages and deadlines have their turn too.
func (g *Gate) readEvents() error {
	for range 16 {
		e, err := g.group.read()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, errOverflow):
			g.stats.Overflows.Add(1)
		case err != nil:
			return fmt.Errorf("read a fanotify event: %w", err)
		case e.Mask&execPermission == 0: // the heartbeat: that it comes back is all it is for
			_ = g.group.allow(e.Fd)
		default:
			g.hold(e.Fd)
		}
	}
	return nil
}

// hold answers one exec, or has the worker look at it.
func (g *Gate) hold(fd int32) {
	now := monotonic()
	h := held{fd: fd, readAt: now, until: now + int64(g.o.Deadline)}
	m := message{Kind: kindExec, ReadAt: h.readAt, Until: h.until}
	if result, decided := g.triage(fd, &m); decided {
		g.answer(h, result)
		return
	}

	h.user = m.Task.Euid != 0
	m.Others = uint16(g.held.len())
	m.ID = g.held.add(h)
	if !g.peer.send(&m) {
		g.release(m.ID, NoWorker)
	}
}

// triage is all that is decided without a wait. What is left to the worker is in m.
func (g *Gate) triage(fd int32, m *message) (result Result, decided bool) {
	t, err := g.ofEvent(g.group.fd, int(fd))
	switch {
	case errors.Is(err, task.ErrGone):
		return Ignored, true
	case err != nil:
		return Error, true
	case t.Tgid == 0:
		return OtherNode, true
	case t.Euid != 0 && !g.o.Rootless:
		return Rootless, true
	case t.Argv == 0: // opened to be executed, and not by execve: uselib(2), or the kernel itself
		return Ignored, true
	}

	file, err := inodeOf(int(fd))
	marked := g.marks[file]
	switch {
	case err != nil:
		return Error, true
	case marked == nil: // unmarked since
		return Ignored, true
	case marked.stale: // the worker that knew it is gone, and the next one has not asked for it
		return NoWorker, true
	case g.isReexec(t.Tgid):
		return Reexec, true
	case t.Quiet != 0:
		return Ignored, true
	case g.peer == nil || g.peer.silent:
		return NoWorker, true
	case g.held.len() >= g.limit, t.Euid != 0 && g.held.users >= maxUsers:
		return OverLimit, true
	}
	m.Task, m.Token = t, marked.token
	return 0, false
}

// release answers what the worker, or its absence, or the deadline has decided. Who comes second changes nothing.
func (g *Gate) release(id uint64, result Result) {
	if h, ok := g.held.take(id); ok {
		g.answer(h, result)
	}
}

func (g *Gate) answer(h held, result Result) {
	if g.group.allow(h.fd) != nil {
		g.stats.AnswerErrors.Add(1) // the task was killed
	}
	g.stats.Answered[result].Add(1)
	g.stats.Hold.observe(time.Duration(monotonic() - h.readAt))
}

// expire answers what is held for longer than the deadline. A worker that has said nothing since it was asked may be as
// hung, or starved, as it looks: until it speaks again nobody waits for it.
func (g *Gate) expire(now int64) {
	for {
		id, h, ok := g.held.oldest()
		if !ok || h.until > now {
			break
		}
		if g.peer != nil && g.peer.heard < h.readAt && !g.peer.silent {
			g.peer.silent = true
			g.peer.ping()
		}
		g.release(id, Timeout)
	}
	if g.peer != nil && g.peer.tick(now) {
		g.drop(g.peer)
	}
}

// lockMemory keeps the gate's pages in memory, where there is no limit that a growing heap could hit.
func lockMemory(ctx context.Context) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY {
		return
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		logr.FromContextOrDiscard(ctx).V(1).Info("Memory is not locked", "why", err.Error())
	}
}
