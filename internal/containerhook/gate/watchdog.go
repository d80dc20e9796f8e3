package gate

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	beatEvery = 500 * time.Millisecond
	// BeatDeadline is how long the gate may be silent. Three beats may be lost to a busy node; no container's start is
	// held up longer than this and the moment in which the kernel ends the process.
	BeatDeadline = 2 * time.Second
	// HealthTimeout is how old the last answer may be before readiness says so: the kernel ends the process a little later.
	HealthTimeout = BeatDeadline - beatEvery/2
)

// heartbeat proves that the gate answers, by a permission event of its own: it reads a private file, which the group
// holds as it holds a runtime, in the same queue. While the reads come back, a timer of the kernel is pushed back before
// it fires; its signal is SIGKILL. Whatever stops the gate (a deadlock, starvation, SIGSTOP) stops the pushing too, the
// kernel ends this process, and with it the group and every hold.
type heartbeat struct {
	ask   func() error // returns when the gate has answered
	stats *Stats
	first chan struct{} // closed when the gate has answered for the first time
}

// newHeartbeat makes the file and has it marked. The group must be read from now on.
func newHeartbeat(g *group, stats *Stats) (*heartbeat, error) {
	fd, err := unix.MemfdCreate("heartbeat", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the heartbeat file: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		return nil, fmt.Errorf("write the heartbeat file: %w", err)
	}
	if err := g.mark(fd, unix.FAN_ACCESS_PERM); err != nil {
		return nil, fmt.Errorf("mark the heartbeat file: %w", err)
	}
	// Only a file that is opened while it is marked has events, since 6.14 (a94204f4d48e).
	file, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, fmt.Errorf("open the heartbeat file: %w", err)
	}
	// Held by our own group until it answers. The wait is killable (5.1, fabf7f29b3e2), so the timer can end it.
	ask := func() error {
		_, err := unix.Pread(int(file.Fd()), make([]byte, 1), 0)
		if err != nil {
			return fmt.Errorf("read the heartbeat file: %w", err)
		}
		return nil
	}
	return &heartbeat{ask: ask, stats: stats, first: make(chan struct{})}, nil
}

// run beats until ctx ends, and then disarms the timer: the group must be closed, or closing, by then.
func (h *heartbeat) run(ctx context.Context) error {
	timer, err := newKillTimer()
	if err != nil {
		return err
	}
	defer timer.disarm()
	due := time.Now() // from then on an exec might have waited too, though we did not even ask

	for {
		if err := timer.arm(BeatDeadline); err != nil {
			return err
		}
		if err := h.ask(); err != nil {
			return err
		}
		h.stats.Heartbeat.observe(time.Since(due))
		if h.stats.LastBeat.Swap(time.Now().UnixNano()) == 0 {
			close(h.first)
		}

		due = time.Now().Add(beatEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(beatEvery):
		}
	}
}

// killTimer is a POSIX timer whose expiry is SIGKILL for this process, a stopped one as well.
type killTimer struct{ id int32 }

// newKillTimer makes a timer; it is not armed. The kernel deletes it with the process.
func newKillTimer() (*killTimer, error) {
	// struct sigevent: value, signo, notify (SIGEV_SIGNAL is 0), padded to 64 bytes. Seconds of suspend do not count.
	event := struct {
		value         uint64
		signo, notify int32
		_             [48]byte
	}{signo: int32(unix.SIGKILL)}
	t := &killTimer{}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return nil, fmt.Errorf("make the watchdog's timer: %w", errno)
	}
	return t, nil
}

// arm sets the timer to fire once, after d.
func (t *killTimer) arm(d time.Duration) error {
	value := [2]unix.Timespec{{}, unix.NsecToTimespec(int64(d))} // struct itimerspec: interval, value
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&value)), 0, 0, 0)
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("arm the watchdog's timer: %w", errno)
	}
	return nil
}

func (t *killTimer) disarm() { _ = t.arm(0) }
