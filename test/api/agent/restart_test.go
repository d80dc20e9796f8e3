package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// persisted bounds how long what an agent has seen can be in its memory alone: a status waits 250 ms for more to say, and
// the checkpoint is written every second. An agent that is killed takes it along.
const persisted = 2 * time.Second

// life is one container of a test with restarts.
type life struct {
	id             string
	fate           fate
	deleted        bool // at once, so that an agent that was not there cannot know of it
	begun, started time.Time
	over           time.Time // when its end was seen, or it was deleted; zero while it runs
}

// gap is a time in which an agent may see nothing that the next one knows of.
type gap struct{ from, to time.Time }

// mayEndIn reports whether a container can have ended in a gap.
func (l life) mayEndIn(gaps []gap) bool {
	return slices.ContainsFunc(gaps, func(g gap) bool {
		return !l.over.IsZero() && !l.over.Before(g.from) && !l.started.After(g.to)
	})
}

// isAllIn reports whether a container came and was gone in one gap.
func (l life) isAllIn(gaps []gap) bool {
	return l.deleted && slices.ContainsFunc(gaps, func(g gap) bool { return !l.begun.Before(g.from) && !l.over.After(g.to) })
}

// restless makes containers until stop is closed, and returns them. Every fourth lives on; of those that end, every other
// is deleted at once.
func (n *node) restless(stop <-chan struct{}) []life {
	var lives []life
	for i := 0; ; i++ {
		select {
		case <-stop:
			return lives
		default:
		}
		l := life{id: n.newID(), fate: ended(int32(i % 256)), deleted: i%2 == 0, begun: time.Now()}
		args := []string{"exit", strconv.Itoa(i % 256)}
		if i%4 == 3 {
			args, l.fate = []string{"sleep"}, running
		}
		bundle := n.bundle(l.id, nil, args...)
		pidFile := filepath.Join(bundle, "pid")
		n.should("create", "--bundle", bundle, "--pid-file", pidFile, l.id)

		l.started = time.Now()
		n.should("start", l.id)
		switch {
		case l.deleted:
			n.should("delete", "--force", l.id)
			l.fate, l.over = fate{}, time.Now() // it may have been killed
		case l.fate != running:
			if err := waitEnded(pidFile); err != nil {
				n.t.Errorf("%s: %v", l.id, err)
			}
			l.over = time.Now()
		}
		lives = append(lives, l)
	}
}

// waitEnded waits until the process of a pid file has ended.
func waitEnded(pidFile string) error {
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		stat, err := os.ReadFile(filepath.Join("/proc", string(pid), "stat"))
		_, state, _ := strings.Cut(string(stat), ") ")
		if err != nil || strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
			return nil
		}
	}
	return fmt.Errorf("process %s has not ended", pid)
}

// TestAnAgentThatIsKilledAgainAndAgainReportsNothingTwiceAndForgetsNothing: only an end that no agent can have seen, or
// that an agent took along, is reported as unseen; and only what came and went in such a gap is not reported.
func TestAnAgentThatIsKilledAgainAndAgainReportsNothingTwiceAndForgetsNothing(t *testing.T) {
	t.Parallel()
	const makers = 2
	kills := machine.Volume(4, 20)
	n := newNode(t, plane)
	a := n.startAgent()
	stop := make(chan struct{})
	var all []life
	var mu sync.Mutex
	var group sync.WaitGroup
	for range makers {
		group.Go(func() {
			lives := n.restless(stop)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, lives...)
		})
	}
	var gaps []gap
	for range kills {
		// More than persisted: some containers end while an agent is there for certain.
		until := time.Now().Add(persisted + time.Second + rand.N(500*time.Millisecond))
		eventually(t, time.Minute, "some time is over", func() error { return after(until) })
		g := gap{from: time.Now().Add(-persisted)}
		a.kill()
		a = n.startAgent()
		g.to = time.Now()
		gaps = append(gaps, g)
	}
	close(stop)
	group.Wait()

	var seen, unseen, unknown []string
	took := eventually(t, 30*time.Second, "the API has what the node has", func() error {
		seen, unseen, unknown = nil, nil, nil
		objects, err := n.objects() // an error where there is a duplicate
		if err != nil {
			return err
		}
		var wrong []error
		for _, l := range all {
			c := objects[l.id]
			delete(objects, l.id)
			switch {
			case c == nil && l.isAllIn(gaps):
				unknown = append(unknown, l.id)
			case c == nil:
				wrong = append(wrong, fmt.Errorf("%s has no object, and an agent was there", l.id))
			case c.Status.Reason == v1alpha1.StopExitUnknown && l.mayEndIn(gaps):
				unseen = append(unseen, l.id)
			case l.deleted && (c.Status.State != v1alpha1.StateStopped || c.Status.Reason == "" || c.Status.Reason == v1alpha1.StopExitUnknown):
				wrong = append(wrong, fmt.Errorf("%s is gone and reported as %+v", l.id, fateOf(c)))
			case !l.deleted && fateOf(c) != l.fate:
				wrong = append(wrong, fmt.Errorf("%s is reported as %+v, not %+v", l.id, fateOf(c), l.fate))
			case !l.over.IsZero() && !l.mayEndIn(gaps):
				seen = append(seen, l.id)
			}
		}
		for id := range objects {
			wrong = append(wrong, fmt.Errorf("%s never was", id))
		}
		return errors.Join(wrong...)
	})
	if len(seen) == 0 {
		t.Errorf("of %d containers none ended while an agent was there for certain", len(all))
	}
	if len(unseen)+len(unknown) == 0 {
		t.Errorf("of %d containers none ended in one of %d gaps: that an agent was killed made no difference", len(all), kills)
	}
	t.Logf("%d kills, %d containers: all reported %v after the last one; %d ended while an agent was there; the exit of %d was not seen, and %d lived while no agent did",
		kills, len(all), took.Round(time.Millisecond), len(seen), len(unseen), len(unknown))
}

// TestAnAgentWhoseCheckpointIsLostConverges: what ends while no agent runs is Stopped, and what lives is told once.
func TestAnAgentWhoseCheckpointIsLostConverges(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(file string) error{
		"kept":      func(string) error { return nil },
		"deleted":   os.Remove,
		"corrupted": func(file string) error { return os.WriteFile(file, []byte(`{"Version":1,"Members":[{"Obj`), 0o600) },
		"emptied":   func(file string) error { return os.Truncate(file, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, plane)
			a := n.startAgent()
			lives, dies, died := n.begin(nil), n.begin(nil), n.begin(nil)
			n.end(died)
			want := map[string]fate{lives: running, dies: running, died: ended(137)}
			n.told(time.Minute, want)
			before, err := n.objects()
			if err != nil {
				t.Fatal(err)
			}
			knew := n.observedSince()
			eventually(t, time.Minute, "another second", func() error { return after(knew.Add(time.Second)) }) // that is what is stored
			a.stop()
			n.end(dies)
			if err := lose(filepath.Join(n.checkpoint, "containers.json")); err != nil {
				t.Fatal(err)
			}
			n.startAgent()
			want[dies] = fate{v1alpha1.StateStopped, v1alpha1.StopExitUnknown, -1}
			n.told(time.Minute, want) // the end that was seen is not forgotten
			objects, err := n.objects()
			if err != nil {
				t.Fatal(err)
			}
			if began := n.observedSince(); began.After(knew) != (name != "kept") {
				t.Errorf("the node's containers are known since %v, and were since %v", began, knew)
			}
			for id, c := range objects {
				if c.UID != before[id].UID {
					t.Errorf("%s is another object now", id)
				}
			}
		})
	}
}

// observedSince is since when the node's agents say that they know all of its containers.
func (n *node) observedSince() time.Time {
	n.t.Helper()
	admin, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	var agent v1alpha1.NodeContainerAgent
	if err := admin.Get(n.t.Context(), client.ObjectKey{Name: n.name}, &agent); err != nil {
		n.t.Fatal(err)
	}
	return agent.Status.ObservedSince.Time
}
