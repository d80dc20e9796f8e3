package runtimes

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mounts says when something was mounted or unmounted on the host: its descriptor of the host's mount table, negative
// where there is none. For one goroutine, but for Close.
type mounts int

func openMounts(hostProc string) mounts {
	fd, err := unix.Open(filepath.Join(hostProc, "1/mountinfo"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return mounts(fd)
}

// changed says whether the table may be another one than at the last time. The kernel says so with POLLPRI (proc(5),
// /proc/pid/mounts), once for each descriptor.
func (m mounts) changed() bool {
	if m < 0 {
		return true
	}
	table := []unix.PollFd{{Fd: int32(m), Events: unix.POLLPRI}}
	_, err := unix.Poll(table, 0)
	return err != nil || table[0].Revents&unix.POLLPRI != 0
}

func (m mounts) Close() error {
	if m < 0 {
		return nil
	}
	return unix.Close(int(m))
}
