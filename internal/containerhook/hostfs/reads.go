package hostfs

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// HangsAfter is when a call into a file system is one that hangs. A disk that is busy takes less.
	HangsAfter = time.Second
	// MaxHanging bounds the calls that hang: each keeps a thread.
	MaxHanging = 32
)

// Why a call is given up, or not made.
var (
	ErrHangs       = errors.New("the file system does not answer")
	ErrManyHanging = errors.New("not read: too many file systems do not answer")
)

// Reads keeps account of calls into file systems that may never return: FUSE, NFS, a disk that dies. Nobody else waits
// for one of them, and the status names them. Safe for concurrent use.
type Reads struct {
	mu      sync.Mutex
	next    int
	started map[int]read // guarded by mu, by a number of their own
}

// read is one call under way.
type read struct {
	path string
	at   time.Time
}

// NewReads has no call under way.
func NewReads() *Reads { return &Reads{started: map[int]read{}} }

// Begin notes a call on path. end must be called when it returns.
func (r *Reads) Begin(path string) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	n := r.next
	r.started[n] = read{path, time.Now()}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.started, n)
	}
}

// Hanging are the paths of calls that hang, sorted.
func (r *Reads) Hanging() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var paths []string
	for _, c := range r.started {
		if time.Since(c.at) > HangsAfter && !slices.Contains(paths, c.path) {
			paths = append(paths, c.path)
		}
	}
	slices.Sort(paths)
	return paths
}

// Refuses says why path is not to be tried: it hangs already, or too many do.
func (r *Reads) Refuses(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	hanging := 0
	for _, c := range r.started {
		if time.Since(c.at) < HangsAfter {
			continue
		}
		if hanging++; c.path == path {
			return PathError("read", path, ErrHangs)
		}
	}
	if hanging >= MaxHanging {
		return fmt.Errorf("read %.300q: %w", path, ErrManyHanging)
	}
	return nil
}

// Within calls do, which reads what is at path, and waits for a second at most. What do returns after that is given to
// late, which may be nil, to close it.
func Within[T any](r *Reads, path string, do func() (T, error), late func(T)) (T, error) {
	var none T
	if err := r.Refuses(path); err != nil {
		return none, err
	}
	type outcome struct {
		value T
		err   error
	}
	done, abandoned := make(chan outcome), make(chan struct{})
	go func() { // ends when the file system answers: nobody can wait for that
		end := r.Begin(path)
		value, err := do()
		end()
		select {
		case done <- outcome{value, err}:
		case <-abandoned:
			if late != nil && err == nil {
				late(value)
			}
		}
	}()
	timer := time.NewTimer(HangsAfter + HangsAfter/10)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
		close(abandoned)
		return none, PathError("read", path, ErrHangs)
	}
}
