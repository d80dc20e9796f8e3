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
	"syscall"
	"time"
	"unsafe"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// maxReaders bounds how many held execs a worker looks at at once, those that are answered and still read from included.
const maxReaders = 256

// crowd is how many tasks one goroutine handles one after the other: a few take less time than to wake another one.
const crowd = 8

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

	file  *os.File // the socket, in Go's poller: who waits there has no thread
	conn  syscall.RawConn
	bell  *os.File // rings where nobody reads
	close func() error

	mu    sync.Mutex
	marks map[uint32]chan unix.Errno // replies that are waited for, by token

	readAlso      func()       // has another goroutine read, if none does
	readers, idle atomic.Int32 // idle is 1 while one waits for a message
}

// IsWorker reports whether a gate has started this process.
func IsWorker() bool { return os.Getenv(envRestarts) != "" }

// Join opens what the gate has passed to this process. It must be called once, first of all that opens files.
func Join(hostProc string) (*Session, error) {
	restarts, err := strconv.Atoi(os.Getenv(envRestarts))
	if err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	if err := runNormally(); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	s := &Session{Restarts: restarts, marks: map[uint32]chan unix.Errno{}}
	next := 6 // after the standard three, the socket, the pipe and the eventfd
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
	if err := unix.SetNonblock(3, true); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
	}
	s.file, s.bell = os.NewFile(3, "gate"), os.NewFile(5, "bell")
	if s.conn, err = s.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("join the gate: %w", err)
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

// Detach is to be called before what may take long: others are handled meanwhile. They are so a little later if it is not.
func (r *Request) Detach() { r.s.readAlso() }

// Left is the time until the deadline answers; negative after that.
func (r *Request) Left() time.Duration { return time.Duration(r.until - monotonic()) }

// Expired reports whether the deadline has answered meanwhile: the task may run already.
func (r *Request) Expired() bool { return monotonic() >= r.until }

// Serve gives handle each exec that the gate asks about until ctx ends or the gate does; some at once. What handle leaves
// unanswered is allowed as Error when it returns, or panics: then panicked is called.
func (s *Session) Serve(ctx context.Context, handle func(context.Context, *Request), panicked func()) error {
	// One goroutine reads, and handles what it has read, for another one would have to be woken while a container waits.
	// There is another reader where more wait, where handle may take long, and where the gate has rung.
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.shutdown(); s.bell.Close() })()
	failed := make(chan error, 1)
	s.readAlso = func() {
		if s.readers.Load() >= maxReaders || !s.idle.CompareAndSwap(0, 1) {
			return
		}
		s.readers.Add(1)
		group.Go(func() {
			defer s.readers.Add(-1)
			if err := s.read(ctx, handle, panicked); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	s.readAlso()
	group.Go(func() {
		for count := make([]byte, 8); ; {
			if _, err := s.bell.Read(count); err != nil {
				return // closed
			}
			s.readAlso()
		}
	})
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

func (s *Session) shutdown() {
	_ = s.conn.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // fails only where it is closed
}

var errGateGone = errors.New("the gate is gone")

// read reads messages and handles them, until another one reads.
func (s *Session) read(ctx context.Context, handle func(context.Context, *Request), panicked func()) error {
	var buffer [messageSize + 1]byte
	var n int
	var err error
	receive := func(fd uintptr) bool {
		n, err = read(int(fd), unsafe.Pointer(&buffer), uintptr(len(buffer)))
		return !errors.Is(err, unix.EAGAIN)
	}
	for {
		if waitErr := s.conn.Read(receive); waitErr != nil {
			err = waitErr
		}
		switch {
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
			s.idle.Store(0)
			if m.Others >= crowd {
				s.readAlso()
			}
			s.handle(ctx, &m, handle, panicked)
			if !s.idle.CompareAndSwap(0, 1) {
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
func (s *Session) send(m *message, rights []byte) (err error) {
	waitErr := s.conn.Write(func(fd uintptr) bool {
		if rights == nil {
			err = send(int(fd), m.bytes())
		} else {
			err = unix.Sendmsg(int(fd), m.bytes(), rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(waitErr, err)
}

// Close closes what Join has opened. Serve must have returned.
func (s *Session) Close() error { return errors.Join(s.close(), s.file.Close()) }
