package containerhook

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	beatEvery = 500 * time.Millisecond
	// beatDeadline is how long the gate may be silent. Three beats may be lost to a busy node; no container's start is
	// held up longer than this and the moment in which the kernel ends the process.
	beatDeadline = 2 * time.Second
)

// heartbeat proves that the gate answers, by a permission event of its own: it opens a private file which the gate
// holds as it holds a runtime. While the opens come back, a timer of the kernel is pushed back before it fires; its
// signal is SIGKILL. Whatever stops the gate (a deadlock, starvation, SIGSTOP, also of whoever supervises us) stops the
// pushing too, the kernel ends this process, and with it the group and every hold.
type heartbeat struct {
	file  *os.File      // a memfd: nothing is left behind
	first chan struct{} // closed when the gate has answered for the first time
	last  atomic.Int64  // when it did last, ns since 1970; 0 before
}

func newHeartbeat() *heartbeat { return &heartbeat{first: make(chan struct{})} }

// open makes the file. The gate must mark it with FAN_OPEN_PERM.
func (h *heartbeat) open() error {
	fd, err := unix.MemfdCreate("heartbeat", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make the heartbeat file: %w", err)
	}
	h.file = os.NewFile(uintptr(fd), "heartbeat")
	return nil
}

// Close closes the file. run must have returned.
func (h *heartbeat) Close() error { return h.file.Close() }

// run beats until ctx ends, and then disarms the timer: the gate must be closed, or closing, by then.
func (h *heartbeat) run(ctx context.Context) error {
	timer, err := newKillTimer()
	if err != nil {
		return err
	}
	defer timer.disarm()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	path := "/proc/self/fd/" + strconv.Itoa(int(h.file.Fd()))
	for {
		if err := timer.arm(beatDeadline); err != nil {
			return err
		}
		// Held by our own gate until it answers. The wait is killable (5.1, fabf7f29b3e2), so the timer can end it.
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the heartbeat file: %w", err)
		}
		unix.Close(fd)
		if h.last.Swap(time.Now().UnixNano()) == 0 {
			close(h.first)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// age is the time since the gate last answered; very long before it did.
func (h *heartbeat) age() time.Duration { return time.Since(time.Unix(0, h.last.Load())) }

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
		return nil, fmt.Errorf("make the dead man's timer: %w", errno)
	}
	return t, nil
}

// arm sets the timer to fire once, after d.
func (t *killTimer) arm(d time.Duration) error {
	value := [2]unix.Timespec{{}, unix.NsecToTimespec(int64(d))} // struct itimerspec: interval, value
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&value)), 0, 0, 0)
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("arm the dead man's timer: %w", errno)
	}
	return nil
}

func (t *killTimer) disarm() { _ = t.arm(0) }
