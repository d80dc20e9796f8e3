package gate

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The gate's calls that never wait are made past Go's scheduler. Where it knows of a call it wakes its monitor thread
// (sysmon), which looks every 20 µs whether that has returned: more work than the call, while a container is held.

func read(fd int, to unsafe.Pointer, size uintptr) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(to), size)
	return int(n), errorOf(errno)
}

func write(fd int, from unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(from), size)
	return errorOf(errno)
}

func closeFile(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func fstat(fd int, st *unix.Stat_t) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
	return errorOf(errno)
}

func send(fd int, b []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return errorOf(errno)
}

// mailbox is where messages and what comes with them are received.
type mailbox struct {
	header  unix.Msghdr
	iov     unix.Iovec
	data    [messageSize + 1]byte
	control [64]byte // one descriptor
}

// receive receives one message. The slices are valid until the next call.
func (m *mailbox) receive(fd int) (data, control []byte, err error) {
	m.iov = unix.Iovec{Base: &m.data[0]}
	m.iov.SetLen(len(m.data))
	m.header = unix.Msghdr{Iov: &m.iov, Control: &m.control[0]}
	m.header.SetIovlen(1)
	m.header.SetControllen(len(m.control))
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.header)),
		unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return nil, nil, errno
	}
	return m.data[:n], m.control[:m.header.Controllen], nil
}

func setTimer(fd int, at int64) {
	value := [2]unix.Timespec{{}, unix.NsecToTimespec(at)} // struct itimerspec: interval, value
	_, _, _ = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(fd), unix.TFD_TIMER_ABSTIME,
		uintptr(unsafe.Pointer(&value)), 0, 0, 0) // fails only for what is no timer
}

// epollWait returns those of events that are, without waiting.
func epollWait(fd int, events []unix.EpollEvent) []unix.EpollEvent {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 { // an interrupt
		return nil
	}
	return events[:n]
}

func errorOf(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// clockBase are one moment of CLOCK_MONOTONIC, in ns, and of Go's clock, which asks without a call.
var clockBase = func() (base struct {
	ns int64
	at time.Time
}) {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails only for a clock that is not there
	base.ns, base.at = t.Nano(), time.Now()
	return base
}()

// monotonic is CLOCK_MONOTONIC in ns, which the worker has too.
func monotonic() int64 { return clockBase.ns + int64(time.Since(clockBase.at)) }
