package containerhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/s3rj1k/go-fanotify/fanotify"
	"golang.org/x/sys/unix"
)

// execPermission is the event that holds: sent when a marked file is opened to be executed (5.0, 66917a3130f2).
const execPermission = unix.FAN_OPEN_EXEC_PERM

// spareDescriptors is how near the limit of open files the gate may come. fanotify denies an exec when it finds no
// descriptor for its event, so the gate gives up before it would harm anyone.
const spareDescriptors = 64

var (
	errDescriptors = errors.New("descriptors run out: the hook gives up before an exec would be denied")
	errOverflow    = errors.New("the kernel's event queue overflowed")
)

// gate is one fanotify group and everything it holds. Closing it lets everything go on: the kernel allows whatever
// waits for an answer of a group that ends.
type gate struct {
	deadline time.Duration
	lastFD   int32 // a higher event descriptor is too near the limit
	metrics  *metrics
	group    *fanotify.NotifyFD
	conn     syscall.RawConn
	who      *who

	// mu keeps apart read + lookup and answer: the lookup walks the kernel's list of events that wait, which both of the
	// others change.
	mu sync.Mutex
}

// openGate makes the group. It sees nothing until something is marked, and then run must be running.
func openGate(w *who, deadline time.Duration, m *metrics) (*gate, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("read the limit of open files: %w", err)
	}
	// FAN_REPORT_TID: an exec may come from any thread, and the arguments are in that thread's registers.
	group, err := fanotify.Initialize(unix.FAN_CLASS_CONTENT|unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS|
		unix.FAN_NONBLOCK|unix.FAN_CLOEXEC|unix.FAN_REPORT_TID, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("open a fanotify group: %w", err)
	}
	conn, err := group.File.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait on the fanotify group: %w", err), group.File.Close())
	}
	last := int32(min(files.Cur, 1<<30)) - spareDescriptors
	return &gate{deadline: deadline, lastFD: last, metrics: m, group: group, conn: conn, who: w}, nil
}

// Close lets everything go that is held. run returns. More than once is as good as once.
func (g *gate) Close() error {
	if err := g.group.File.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// mark adds events on the inode that f is open on. Safe for concurrent use.
func (g *gate) mark(f *os.File, events uint64) error {
	return g.group.Mark(unix.FAN_MARK_ADD, events, int(f.Fd()), "")
}

// unmark takes back what mark added.
func (g *gate) unmark(f *os.File, events uint64) error {
	return g.group.Mark(unix.FAN_MARK_REMOVE, events, int(f.Fd()), "")
}

// run reads events until ctx ends, one by one, and gives each exec to inspect, which must not block: the deadline runs.
// Every event is answered, whatever inspect does. It calls lost when the kernel had no room for an event. When run returns
// the gate is closed.
func (g *gate) run(ctx context.Context, inspect func(*held), lost func()) error {
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()
	defer g.Close()
	for {
		h, err := g.next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOverflow):
			lost()
		case err != nil:
			return fmt.Errorf("read a fanotify event: %w", err)
		case h.event.MatchMask(execPermission):
			h.timer.Reset(g.deadline)
			inspect(h)
		default: // the heartbeat: that it comes back is all it is for
			h.allow("heartbeat")
		}
		if h != nil && h.event.Fd > g.lastFD {
			return errDescriptors
		}
	}
}

// next waits for one event and asks who is held, before anything else can happen to the group.
func (g *gate) next() (*held, error) {
	var h *held
	var err error
	waitErr := g.conn.Read(func(fd uintptr) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		var event *fanotify.EventMetadata
		event, err = readEvent(int(fd))
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case err == nil && event.Fd < 0:
			err = errOverflow
		case err == nil:
			h = &held{gate: g, event: event, since: time.Now()}
			h.timer = time.AfterFunc(beatDeadline, h.late) // set before it can fire
			if event.MatchMask(execPermission) {
				h.task, h.err = g.who.waits(int(fd), int(event.Fd))
			}
		}
		return true
	})
	return h, errors.Join(err, waitErr)
}

// held is one task that waits in execve, until allow.
type held struct {
	gate  *gate
	event *fanotify.EventMetadata
	timer *time.Timer
	since time.Time // read from the group

	task task
	err  error // why task is not known

	answered atomic.Bool
}

// allow lets the task go on and counts why. Only the first call does anything; safe for concurrent use.
func (h *held) allow(result string) {
	if !h.answered.CompareAndSwap(false, true) {
		return
	}
	h.timer.Stop()
	err := h.answer()
	// Only now may the number be used again: the kernel finds the event that an answer is for by it.
	h.event.Close()
	h.gate.metrics.answered(result, time.Since(h.since), err)
}

func (h *held) answer() error {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	return h.gate.group.ResponseAllow(h.event)
}

// late is the deadline's allow.
func (h *held) late() { h.allow(resultLate) }

// readEvent reads one event, and no more: each has a new descriptor, and the library's own reader fetches 170 at once. It
// also decodes by reflection, a seventh of the agent's CPU time.
func readEvent(group int) (*fanotify.EventMetadata, error) {
	event := new(fanotify.EventMetadata)
	n, err := unix.Read(group, (*[unsafe.Sizeof(*event)]byte)(unsafe.Pointer(event))[:])
	switch {
	case err != nil:
		return nil, err
	case n != int(unsafe.Sizeof(*event)):
		return nil, io.ErrUnexpectedEOF
	case event.Vers != unix.FANOTIFY_METADATA_VERSION:
		return nil, fmt.Errorf("version %d of fanotify's events is not %d", event.Vers, unix.FANOTIFY_METADATA_VERSION)
	}
	return event, nil
}
