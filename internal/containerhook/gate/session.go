package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// maxReaders bounds how many held execs a worker looks at at once, those that are answered and still read from included.
const maxReaders = 256

// Session is a worker's end of the connection to its gate. Safe for concurrent use.
type Session struct {
	// Programs are what the gate has loaded; a nil member could not be.
	Programs *task.Programs
	// Stats are the gate's own.
	Stats *Stats
	// HookErr is why nothing is held, TracerErr why nothing is followed; nil where it is.
	HookErr, TracerErr error
	// Files are those of Options, which this process may close.
	Files []*os.File
	// Restarts is how many workers of this gate there were before.
	Restarts int

	fd    int
	close func() error

	mu    sync.Mutex
	marks map[uint32]chan unix.Errno // replies that are waited for, by token

	readers, idle atomic.Int32
}

// IsWorker reports whether a gate has started this process.
func IsWorker() bool { return os.Getenv(envRestarts) != "" }

// Join opens what the gate has passed to this process. It must be called once, first of all that opens files.
func Join(hostProc string) (*Session, error) {
	restarts, err := strconv.Atoi(os.Getenv(envRestarts))
	if err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	s := &Session{Restarts: restarts, fd: 3, marks: map[uint32]chan unix.Errno{}}
	next := 5 // after the standard three, the socket and the pipe
	if _, err := pollerFDs(); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	if err := hold(4); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	if s.Stats, err = mapStats(task.File(next, "stats")); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	var fds [task.FDCount]int
	present := os.Getenv(envPresent)
	for i := range max(len(fds), len(present)) {
		fd := -1
		if i < len(present) && present[i] == '1' {
			next++
			fd = next
		}
		switch {
		case i < len(fds):
			fds[i] = fd
		case fd >= 0:
			s.Files = append(s.Files, os.NewFile(uintptr(fd), "inherited"))
		default:
			s.Files = append(s.Files, nil)
		}
	}
	for fd := 3; fd <= next; fd++ {
		unix.CloseOnExec(fd)
	}

	var host task.Host
	if text := os.Getenv(envHost); text != "" {
		if host, err = decodeHost(text); err != nil {
			return nil, fmt.Errorf("join the gate: read %s: %w", envHost, err)
		}
	}
	if s.Programs, s.close, err = task.FromFDs(fds, host, hostProc); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	s.HookErr, s.TracerErr = errorFrom(envHookErr), errorFrom(envTracerErr)
	return s, nil
}

// hold has fd close as soon as this process is killed. A thread in uninterruptible sleep keeps the descriptors of a dead
// process open, for all threads share one table; fd is in the table of one that always sleeps well.
func hold(fd int) error {
	held := make(chan error, 1)
	onThread(func() {
		err := ownTable()
		if err == nil {
			err = closeOthers(fd)
		}
		held <- err
		if err == nil {
			select {}
		}
	})
	err := <-held
	unix.Close(fd)
	return err
}

func errorFrom(variable string) error {
	if text := os.Getenv(variable); text != "" {
		return errors.New(text)
	}
	return nil
}

// Request is one task that is held in execve, until Allow. Its memory is its own: nothing of it may be kept.
type Request struct {
	Task  task.Task
	Token uint32    // of the marked file that it executes
	At    time.Time // the event was read

	s     *Session
	id    uint64
	until int64

	answered atomic.Bool
}

// Allow lets the task go on, and has the gate count why. Only the first call does anything; safe for concurrent use.
func (r *Request) Allow(result Result) {
	if !r.answered.CompareAndSwap(false, true) {
		return
	}
	_ = r.s.send(&message{Kind: kindAllow, ID: r.id, Result: result}, nil) // fails only where the gate is gone
}

// Left is the time until the deadline answers; negative after that.
func (r *Request) Left() time.Duration { return time.Duration(r.until - monotonic()) }

// Expired reports whether the deadline has answered meanwhile: the task may run already.
func (r *Request) Expired() bool { return monotonic() >= r.until }

// Serve gives handle each exec that the gate asks about, in a goroutine of its own, until ctx ends or the gate does. What
// handle leaves unanswered is allowed as Error when it returns, or panics: then panicked is called.
func (s *Session) Serve(ctx context.Context, handle func(context.Context, *Request), panicked func()) error {
	// A reader that handle keeps is not missed: whoever takes the last idle one's place begins another.
	var group sync.WaitGroup
	defer group.Wait()
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(s.fd, unix.SHUT_RDWR) })()
	failed := make(chan error, 1)
	var begin func()
	begin = func() {
		s.readers.Add(1)
		s.idle.Add(1)
		group.Go(func() {
			defer s.readers.Add(-1)
			if err := s.read(ctx, handle, panicked, begin); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	begin()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // the other readers end too
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

var errGateGone = errors.New("the gate is gone")

// read reads messages and handles them, until there are readers enough without it.
func (s *Session) read(ctx context.Context, handle func(context.Context, *Request), panicked, begin func()) error {
	var buffer [messageSize + 1]byte
	for {
		n, err := unix.Read(s.fd, buffer[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read from the gate: %w", err)
		case n == 0:
			return errGateGone
		}
		m, err := decode(buffer[:n])
		if err != nil {
			return fmt.Errorf("read from the gate: %w", err)
		}

		switch m.Kind {
		case kindPing:
			err = s.send(&message{Kind: kindPong}, nil)
		case kindMarked:
			s.marked(&m)
		case kindExec:
			if s.idle.Add(-1) == 0 && s.readers.Load() < maxReaders {
				begin()
			}
			s.handle(ctx, &m, handle, panicked)
			if s.idle.Add(1) > 4 { // threads that wait for a next crowd
				s.idle.Add(-1)
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("write to the gate: %w", err)
		}
	}
}

func (s *Session) handle(ctx context.Context, m *message, handle func(context.Context, *Request), panicked func()) {
	r := &Request{Task: m.Task, Token: m.Token, At: time.Now().Add(time.Duration(m.ReadAt - monotonic())), s: s, id: m.ID, until: m.Until}
	defer r.Allow(Error)
	defer func() { // one container that we cannot bear must not blind the node to all others
		if v := recover(); v != nil {
			logr.FromContextOrDiscard(ctx).Error(fmt.Errorf("%v", v), "Inspecting a held exec panicked",
				"pid", r.Task.Tgid, "stack", string(debug.Stack()))
			panicked()
		}
	}()
	handle(ctx, r)
}

// Mark has execs of the file held from now on, and called token. f must be open for reading, and on a file system that
// always answers: the gate asks it too. The worker may close f.
func (s *Session) Mark(ctx context.Context, token uint32, f *os.File) error {
	reply := make(chan unix.Errno, 1)
	s.mu.Lock()
	s.marks[token] = reply
	s.mu.Unlock()
	if err := s.send(&message{Kind: kindMark, Token: token}, unix.UnixRights(int(f.Fd()))); err != nil {
		return fmt.Errorf("write to the gate: %w", err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case errno := <-reply:
		if errno != 0 {
			return errno
		}
		return nil
	}
}

func (s *Session) marked(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reply := s.marks[m.Token]; reply != nil {
		reply <- unix.Errno(m.Errno)
		delete(s.marks, m.Token)
	}
}

// Unmark takes the mark of that token back.
func (s *Session) Unmark(token uint32) { _ = s.send(&message{Kind: kindUnmark, Token: token}, nil) }

// Synced says that all is marked that this worker wants: what only workers before it wanted is unmarked.
func (s *Session) Synced() { _ = s.send(&message{Kind: kindSynced}, nil) }

// send waits where the gate has not read: it always does, or dies.
func (s *Session) send(m *message, rights []byte) error {
	for {
		err := unix.Sendmsg(s.fd, m.bytes(), rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Close closes what Join has opened. Serve must have returned.
func (s *Session) Close() error { return errors.Join(s.close(), unix.Close(s.fd)) }
