package containerhook

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// hangsAfter is when a call into a file system is one that hangs. A disk that is busy takes less.
	hangsAfter = time.Second
	// maxHanging bounds the calls that hang: each keeps a thread.
	maxHanging = 32
)

var (
	errHangs       = errors.New("the file system does not answer")
	errManyHanging = errors.New("not read: too many file systems do not answer")
)

// reads keeps account of calls into file systems that may never return: FUSE, NFS, a disk that dies. Nobody else waits
// for one of them, and the status names them. Safe for concurrent use.
type reads struct {
	mu      sync.Mutex
	next    int
	started map[int]read // guarded by mu, by a number of their own
}

// read is one call under way.
type read struct {
	path string
	at   time.Time
}

func newReads() *reads { return &reads{started: map[int]read{}} }

// begin notes a call on path. end must be called when it returns.
func (r *reads) begin(path string) (end func()) {
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

// hanging are the paths of calls that hang, sorted.
func (r *reads) hanging() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var paths []string
	for _, c := range r.started {
		if time.Since(c.at) > hangsAfter && !slices.Contains(paths, c.path) {
			paths = append(paths, c.path)
		}
	}
	slices.Sort(paths)
	return paths
}

// refuses says why path is not to be tried: it hangs already, or too many do.
func (r *reads) refuses(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	hanging := 0
	for _, c := range r.started {
		if time.Since(c.at) < hangsAfter {
			continue
		}
		if hanging++; c.path == path {
			return pathError("read", path, errHangs)
		}
	}
	if hanging >= maxHanging {
		return fmt.Errorf("read %.300q: %w", path, errManyHanging)
	}
	return nil
}

// within calls do, which reads what is at path, and waits for a second at most. What do returns after that is given to
// late, which may be nil, to close it.
func within[T any](r *reads, path string, do func() (T, error), late func(T)) (T, error) {
	var none T
	if err := r.refuses(path); err != nil {
		return none, err
	}
	type outcome struct {
		value T
		err   error
	}
	done, abandoned := make(chan outcome), make(chan struct{})
	go func() { // ends when the file system answers: nobody can wait for that
		end := r.begin(path)
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
	timer := time.NewTimer(hangsAfter + hangsAfter/10)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
		close(abandoned)
		return none, pathError("read", path, errHangs)
	}
}
