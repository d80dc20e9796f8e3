package gate

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/s3rj1k/go-fanotify/fanotify"
	"golang.org/x/sys/unix"
)

// execPermission is the event that holds: sent when a marked file is opened to be executed (5.0, 66917a3130f2).
const execPermission = unix.FAN_OPEN_EXEC_PERM

var errOverflow = errors.New("the kernel's event queue overflowed")

// group is one fanotify group. Closing it lets everything go on that it holds.
type group struct {
	notify *fanotify.NotifyFD
	fd     int
}

func openGroup() (*group, error) {
	// FAN_REPORT_TID: an exec may come from any thread, and the arguments are in that thread's registers.
	notify, err := fanotify.Initialize(unix.FAN_CLASS_CONTENT|unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS|
		unix.FAN_CLOEXEC|unix.FAN_REPORT_TID, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("open a fanotify group: %w", err)
	}
	// Only now: a file that does not block from the beginning would be polled by Go's runtime too, at each event.
	if err := unix.SetNonblock(notify.Fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open a fanotify group: %w", err), notify.File.Close())
	}
	return &group{notify: notify, fd: notify.Fd}, nil
}

func (g *group) Close() error { return g.notify.File.Close() }

// mark adds events on the inode that fd is open on.
func (g *group) mark(fd int, events uint64) error {
	return g.notify.Mark(unix.FAN_MARK_ADD, events, fd, "")
}

// unmark takes back what mark added.
func (g *group) unmark(fd int, events uint64) error {
	return g.notify.Mark(unix.FAN_MARK_REMOVE, events, fd, "")
}

// allow answers the event with descriptor fd, and closes that. Only then may the number be used again: the kernel finds
// the event that an answer is for by it.
func (g *group) allow(fd int32) error {
	response := unix.FanotifyResponse{Fd: fd, Response: unix.FAN_ALLOW}
	err := write(g.fd, unsafe.Pointer(&response), unsafe.Sizeof(response))
	closeFile(int(fd))
	return err
}

// read reads one event, and no more: each has a new descriptor, and the library's own reader fetches 170 at once. It
// also decodes by reflection, a seventh of the agent's CPU time. unix.EAGAIN means that there is none.
func (g *group) read() (unix.FanotifyEventMetadata, error) {
	var e unix.FanotifyEventMetadata
	n, err := read(g.fd, unsafe.Pointer(&e), unsafe.Sizeof(e))
	switch {
	case err != nil:
		return e, err
	case n != int(unsafe.Sizeof(e)):
		return e, io.ErrUnexpectedEOF
	case e.Vers != unix.FANOTIFY_METADATA_VERSION:
		return e, fmt.Errorf("version %d of fanotify's events is not %d", e.Vers, unix.FANOTIFY_METADATA_VERSION)
	case e.Fd < 0:
		return e, errOverflow
	}
	return e, nil
}
