package gate

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// spinFor is how long wait looks for what comes soon before it sleeps.
	spinFor = 60 * time.Microsecond
	// spinAgain is how often it does not once that was in vain: on a machine that is busy it would only take CPU away.
	spinAgain = 32
)

// waiter waits for several descriptors and a time, in Go's own poller: a goroutine there has no thread, and keeps
// nobody's. For one goroutine, but for add and remove.
type waiter struct {
	file   *os.File // an epoll
	epoll  int
	timer  int   // timerfd
	armed  int64 // CLOCK_MONOTONIC, ns: when it fires; 0 where it does not
	busy   int   // how often not to spin
	events [8]unix.EpollEvent

	conn syscall.RawConn
	look func(fd uintptr) bool
	seen []unix.EpollEvent // by look
}

// newWaiter makes a waiter; Close closes it.
func newWaiter() (w *waiter, err error) {
	w = &waiter{}
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if err := unix.SetNonblock(w.epoll, true); err != nil { // so that Go's poller takes it
		return nil, errors.Join(fmt.Errorf("make an epoll: %w", err), unix.Close(w.epoll))
	}
	w.file = os.NewFile(uintptr(w.epoll), "gate")
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make a timer: %w", err), w.file.Close())
	}
	if w.conn, err = w.file.SyscallConn(); err == nil {
		err = w.add(w.timer)
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.look = func(uintptr) bool {
		w.seen = epollWait(w.epoll, w.events[:])
		return len(w.seen) > 0
	}
	return w, nil
}

// Close closes what newWaiter has opened.
func (w *waiter) Close() error { return errors.Join(w.file.Close(), unix.Close(w.timer)) }

// add has the waiter wait for something to read from fd too.
func (w *waiter) add(fd int) error {
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("wait for a file: %w", err)
	}
	return nil
}

// remove takes add back. It must be called before fd is closed.
func (w *waiter) remove(fd int) { _ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

// wakeAt has wait return at that time, of CLOCK_MONOTONIC in ns, if not before. What is later than it was is not worth a
// call, unless that is near.
func (w *waiter) wakeAt(at int64) {
	if w.armed == 0 || at < w.armed || at > w.armed+int64(time.Millisecond) && w.armed < monotonic()+int64(nudgeAfter) {
		setTimer(w.timer, at)
		w.armed = at
	}
}

// wait returns the descriptors that have something, or have ended; none of them where it is time. soon says that somebody
// answers in a moment, if there is a CPU for it: then it looks again and again for some time, for to be woken takes as
// long as that answer.
func (w *waiter) wait(soon bool) ([]unix.EpollEvent, error) {
	found := w.look(0)
	switch {
	case found, !soon:
	case w.busy > 0:
		w.busy--
	default:
		for until := monotonic() + int64(spinFor); !found && monotonic() < until; {
			found = w.look(0)
		}
		if !found {
			w.busy = spinAgain
		}
	}
	if !found {
		if err := w.conn.Read(w.look); err != nil {
			return nil, fmt.Errorf("wait for events: %w", err)
		}
	}
	for _, e := range w.seen {
		if int(e.Fd) == w.timer {
			setTimer(w.timer, 0)
			w.armed = 0
		}
	}
	return w.seen, nil
}
