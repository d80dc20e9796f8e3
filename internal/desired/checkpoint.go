package desired

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
)

const (
	checkpointVersion = 1
	// saveEvery is how much of what the API has a crash can make the next agent write again.
	saveEvery = time.Second
	// saveTimeout is how long anybody waits for the file to be written. A disk that is busy takes less.
	saveTimeout = time.Second
)

// ErrHangs is that the checkpoint's file system does not answer.
var ErrHangs = errors.New("the file system does not answer")

// Checkpoint keeps a Set in a file, for the next agent on the node. What it holds are objects as the API has them, and
// nothing else of a container. Lost or broken, it costs the exit codes of containers that end while no agent runs.
type Checkpoint struct {
	set  *Set
	path string

	observedSince time.Time

	mu      sync.Mutex
	started time.Time     // of the call into the file system that is under way; zero without one; guarded by mu
	idle    chan struct{} // has one element where there is none
	saved   int           // the Set's changes that the file has; of who has taken from idle
}

// content is the file.
type content struct {
	Version          int
	NodeName, BootID string
	ObservedSince    time.Time
	Members          []*member
}

// NewCheckpoint is a checkpoint in dir, which Load makes.
func NewCheckpoint(set *Set, dir string) *Checkpoint {
	c := &Checkpoint{set: set, path: filepath.Join(dir, "containers.json"), observedSince: time.Now(), idle: make(chan struct{}, 1), saved: -1}
	c.idle <- struct{}{}
	return c
}

// Hanging returns the checkpoint's path while its file system does not answer, else nothing. Safe for concurrent use.
func (c *Checkpoint) Hanging() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started.IsZero() || time.Since(c.started) <= saveTimeout {
		return ""
	}
	return c.path
}

// within calls do, which may hang with the file system, and waits so long for it. There is one such call at a time: while
// one hangs, the error is ErrHangs at once.
func (c *Checkpoint) within(limit time.Duration, do func() error) error {
	if c.Hanging() != "" {
		return ErrHangs
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.idle:
	case <-timer.C:
		return ErrHangs
	}
	c.setStarted(time.Now())
	done := make(chan error, 1)
	go func() { // ends when the file system answers: nobody can wait for that
		err := do()
		c.setStarted(time.Time{})
		c.idle <- struct{}{}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return ErrHangs
	}
}

func (c *Checkpoint) setStarted(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = at
}

// ObservedSince returns since when the agents of this boot have known all of the node's containers: since the checkpoint
// that has been handed on was begun. It is called after Load.
func (c *Checkpoint) ObservedSince() time.Time { return c.observedSince }

// Load brings what the file has of this boot into the Set, and returns those containers, each as it was reported last. The
// error says why there are none; the Set is empty then, and all is well otherwise. No file is no error. It waits for the
// file system for limit at most: the error is then ErrHangs.
func (c *Checkpoint) Load(limit time.Duration) ([]event.Container, error) {
	read := make(chan []byte, 1)
	err := c.within(limit, func() error {
		if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
			return fmt.Errorf("make the directory of the checkpoint: %w", err)
		}
		raw, err := os.ReadFile(c.path)
		read <- raw
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var raw []byte
	if err == nil {
		raw = <-read
	}
	var file content
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err == nil && file.Version != checkpointVersion {
		err = fmt.Errorf("version %d is not %d", file.Version, checkpointVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	if o := c.set.options; file.BootID != o.BootID || file.NodeName != o.NodeName {
		return nil, nil // what ran then is gone; the controller knows
	}
	c.observedSince = file.ObservedSince
	var known []event.Container
	for _, m := range file.Members {
		if m == nil || m.Object == nil {
			continue
		}
		known = append(known, m.Container)
		c.set.restore(m)
	}
	// Of two with the same ID the later one is what the ID means.
	slices.SortFunc(known, func(a, b event.Container) int { return a.CreateTime.Compare(b.CreateTime) })
	return known, nil
}

// Save writes the file, if something changed. It waits for a second at most: the error is then ErrHangs. Safe for
// concurrent use.
func (c *Checkpoint) Save() error {
	if err := c.within(saveTimeout, c.save); err != nil {
		return fmt.Errorf("write the checkpoint %q: %w", c.path, err)
	}
	return nil
}

func (c *Checkpoint) save() error {
	members, changes, err := c.set.encoded()
	if err == nil && changes == c.saved {
		return nil
	}
	raw, headErr := json.Marshal(content{checkpointVersion, c.set.options.NodeName, c.set.options.BootID, c.observedSince, []*member{}})
	if err = errors.Join(err, headErr); err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	raw = append(raw[:len(raw)-len("]}")], bytes.Join(members, []byte(","))...)
	if err := replace(c.path, append(raw, "]}"...)); err != nil {
		return err
	}
	c.saved = changes
	return nil
}

// Run saves every second, and at the end.
func (c *Checkpoint) Run(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	logged := ""
	for {
		switch err := c.Save(); {
		case err == nil:
			logged = ""
		case err.Error() != logged:
			logged = err.Error()
			logr.FromContextOrDiscard(ctx).Error(err, "Writing checkpoint: the next agent will not know how containers ended")
		}
		select {
		case <-ctx.Done():
			return c.Save()
		case <-tick.C:
		}
	}
}

// replace has the file at path be all of raw, or as it was.
func replace(path string, raw []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// encoded returns all members in JSON, and how much had changed by then. Of a full Set of which one member has changed one
// is encoded: a checkpoint is written before each create.
func (s *Set) encoded() ([][]byte, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([][]byte, 0, len(s.members))
	for _, m := range s.members {
		if m.raw == nil {
			var err error
			if m.raw, err = json.Marshal(m); err != nil {
				return nil, 0, err
			}
		}
		all = append(all, m.raw)
	}
	return all, s.changes, nil
}

// restore adds a member of a checkpoint. A sandbox that was hidden is reported where sandboxes are asked for now; one that
// the API has is followed to its end even where they are not any more.
func (s *Set) restore(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Object.Status.State != v1alpha1.StateStopped { // what ended before anybody asked for it is no news
		m.Hidden = m.Hidden && !s.options.Sandboxes
	}
	s.add(m.Container.Key(), m)
}
