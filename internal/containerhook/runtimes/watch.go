package runtimes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

const (
	// watchFor is what can put another file behind a name in a directory.
	watchFor = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR
	// maxLinks bounds the symlinks on a way, as the kernel does (MAXSYMLINKS).
	maxLinks = 40
)

// watch says when another file may be behind a path of the host: whatever is created, renamed or removed on the way to
// it, where symlinks lead too. A mount is not seen. What else happens in those directories, of which some are busy, is
// passed over. For one goroutine, but for Close.
type watch struct {
	host   *hostfs.Root
	reads  *hostfs.Reads
	fd     int      // inotify; -1 where there is none to be had
	events *os.File // the same
	names  map[int32]map[string]bool
	round  map[string]bool // ways that were added since begin
}

// newWatch makes a watch. With an error it may be nil, or a blind one: root may have no inotify instance left (of 128 by
// default, for all of its programs).
func newWatch(host *hostfs.Root, reads *hostfs.Reads) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		err = fmt.Errorf("watch the host's directories: %w", err)
		w, blindErr := newBlindWatch(host, reads)
		return w, errors.Join(err, blindErr)
	}
	return &watch{host: host, reads: reads, fd: fd, events: os.NewFile(uintptr(fd), "inotify"), names: map[int32]map[string]bool{}}, nil
}

// newBlindWatch makes a watch that waits, and never says anything.
func newBlindWatch(host *hostfs.Root, reads *hostfs.Reads) (*watch, error) {
	never, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a file that is never read: %w", err)
	}
	return &watch{host: host, reads: reads, fd: -1, events: os.NewFile(uintptr(never), "nothing")}, nil
}

func (w *watch) Close() error {
	if err := w.events.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// begin forgets which ways were added, so that they are looked at again: other directories may be there by now.
func (w *watch) begin() { w.round = map[string]bool{} }

// add watches the way to name, a path from the host's root whose parts may be patterns: from a pattern on it ends.
// What is not there yet is seen when it comes, and then must be added again.
func (w *watch) add(name string) { w.addLinked(name, 0) }

func (w *watch) addLinked(name string, links int) {
	dir := "/"
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		next := path.Join(dir, part)
		if !w.round[next] {
			w.round[next] = true
			s, err := hostfs.Within(w.reads, next, func() (step, error) { return w.look(dir, part), nil }, nil)
			if err != nil || !s.there {
				return
			}
			if s.wd >= 0 {
				if w.names[s.wd] == nil {
					w.names[s.wd] = map[string]bool{}
				}
				w.names[s.wd][part] = true
			}
			if isPattern(part) {
				return
			}
			if s.target != "" && links < maxLinks {
				if !path.IsAbs(s.target) {
					s.target = path.Join(dir, s.target)
				}
				w.addLinked(s.target, links+1)
			}
		}
		dir = next
	}
}

// step is one part of a way.
type step struct {
	there  bool   // its directory
	wd     int32  // inotify's number for that; -1 without a watch: the regular look at everything has to do
	target string // of a symlink
}

// look watches the directory dir, and says what its entry name is. It takes as long as the file system does.
func (w *watch) look(dir, name string) step {
	fd, err := w.host.Lookup(dir, unix.O_DIRECTORY)
	if err != nil {
		return step{wd: -1}
	}
	defer hostfs.CloseFD(fd)
	s := step{there: true, wd: -1}
	if w.fd >= 0 {
		if wd, err := unix.InotifyAddWatch(w.fd, hostfs.Descriptor(fd), watchFor); err == nil {
			s.wd = int32(wd)
		}
	}
	if !isPattern(name) {
		s.target, _ = w.host.Readlink(path.Join(dir, name)) // few are symlinks
	}
	return s
}

// wait says whether something changes on a way within d. After Close it is an error.
func (w *watch) wait(d time.Duration) (changed bool, err error) {
	if err := w.events.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false, fmt.Errorf("watch the host's directories: %w", err)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.events.Read(buffer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("watch the host's directories: %w", err)
		case w.matters(buffer[:n]):
			return true, nil
		}
	}
}

// matters says whether one of the events, as read(2) returns them, is about a name on a way.
func (w *watch) matters(events []byte) (yes bool) {
	for len(events) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(events)), binary.NativeEndian.Uint32(events[4:])
		end := unix.SizeofInotifyEvent + min(int(binary.NativeEndian.Uint32(events[12:])), len(events)-unix.SizeofInotifyEvent)
		name, _, _ := bytes.Cut(events[unix.SizeofInotifyEvent:end], []byte{0})
		events = events[end:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			yes = true
		case mask&unix.IN_IGNORED != 0: // the directory is gone
			delete(w.names, wd)
			yes = true
		default:
			yes = yes || matchesAny(w.names[wd], string(name))
		}
	}
	return yes
}

func matchesAny(patterns map[string]bool, name string) bool {
	if patterns[name] {
		return true
	}
	for pattern := range patterns {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

func isPattern(part string) bool { return strings.ContainsAny(part, `*?[\`) }
