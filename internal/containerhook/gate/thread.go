package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// onThread calls do on a thread that ends with it. It is never the process's first: that one's table of descriptors is what
// /proc/self/fd shows, and so must stay the table of all others.
func onThread(do func()) {
	locked := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if unix.Gettid() == unix.Getpid() {
			onThread(do) // on another one, for this one is taken
			runtime.UnlockOSThread()
			close(locked)
			return
		}
		close(locked)
		do()
	}()
	<-locked
}

// ownTable gives the calling thread a table of descriptors of its own, a copy.
func ownTable() error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return fmt.Errorf("unshare the table of descriptors: %w", err)
	}
	return nil
}

// closeOthers closes all in the calling thread's table but keep, and what Go's runtime needs in it.
func closeOthers(keep ...int) error {
	poller, err := pollerFDs()
	if err != nil {
		return err
	}
	keep = append(keep, poller...)
	slices.Sort(keep)
	first := 0
	for _, fd := range append(keep, 1<<31) {
		if fd > first {
			err = errors.Join(err, unix.CloseRange(uint(first), uint(fd-1), 0))
		}
		first = fd + 1
	}
	return err
}

// pollerFDs are those by which Go's runtime waits for descriptors and timers. Any thread may wake who waits (netpollBreak),
// and where it cannot, the runtime ends the process. To be called once before anything else opens an epoll or an eventfd.
var pollerFDs = sync.OnceValues(func() (fds []int, err error) {
	r, w, err := os.Pipe() // has the runtime open them
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	defer w.Close()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list the open files: %w", err)
	}
	for _, entry := range all {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())) // the listing's own is gone
		fd, err := strconv.Atoi(entry.Name())
		if err == nil && (target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]") {
			fds = append(fds, fd)
		}
	}
	return fds, nil
})
