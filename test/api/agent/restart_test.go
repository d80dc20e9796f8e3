package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// life is one container of a test with restarts.
type life struct {
	id      string
	fate    fate
	deleted bool // at once, so that an agent that was not there cannot know of it
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
		l := life{id: n.newID(), fate: ended(int32(i % 256)), deleted: i%2 == 0}
		args := []string{"exit", strconv.Itoa(i % 256)}
		if i%4 == 3 {
			args, l.fate = []string{"sleep"}, running
		}
		n.should("create", "--bundle", n.bundle(l.id, nil, args...), l.id)
		n.should("start", l.id)
		if l.deleted {
			n.should("delete", "--force", l.id)
			l.fate = fate{} // it may have been killed
		}
		lives = append(lives, l)
	}
}

func TestAnAgentThatIsKilledTwentyTimesTellsNothingTwiceAndForgetsNothing(t *testing.T) {
	t.Parallel()
	const kills, makers = 20, 2
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
	for range kills {
		until := time.Now().Add(rand.N(500 * time.Millisecond))
		eventually(t, time.Minute, "some time is over", func() error { return after(until) })
		a.kill()
		a = n.startAgent()
	}
	close(stop)
	group.Wait()

	unseen, unknown := 0, 0
	took := eventually(t, 30*time.Second, "the API has what the node has", func() error {
		unseen, unknown = 0, 0
		objects, err := n.objects() // an error where there is a duplicate
		if err != nil {
			return err
		}
		var wrong []error
		for _, l := range all {
			c := objects[l.id]
			delete(objects, l.id)
			switch {
			case c == nil && l.deleted:
				unknown++
			case c == nil:
				wrong = append(wrong, fmt.Errorf("%s is not told of", l.id))
			case c.Status.Reason == v1alpha1.StopExitUnseen && l.fate != running:
				unseen++
			case l.deleted && (c.Status.State != v1alpha1.StateStopped || c.Status.Reason == ""):
				wrong = append(wrong, fmt.Errorf("%s is gone and told as %+v", l.id, fateOf(c)))
			case !l.deleted && fateOf(c) != l.fate:
				wrong = append(wrong, fmt.Errorf("%s is told as %+v, not %+v", l.id, fateOf(c), l.fate))
			}
		}
		for id := range objects {
			wrong = append(wrong, fmt.Errorf("%s never was", id))
		}
		return errors.Join(wrong...)
	})
	t.Logf("%d kills, %d containers: all told %v after the last one; the exit of %d was not seen, and %d lived while no agent did",
		kills, len(all), took.Round(time.Millisecond), unseen, unknown)
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
			knew := n.knownSince()
			eventually(t, time.Minute, "another second", func() error { return after(knew.Add(time.Second)) }) // that is what is stored
			a.stop()
			n.end(dies)
			if err := lose(filepath.Join(n.checkpoint, "containers.json")); err != nil {
				t.Fatal(err)
			}
			n.startAgent()
			want[dies] = fate{v1alpha1.StateStopped, v1alpha1.StopExitUnseen, -1}
			n.told(time.Minute, want) // the end that was seen is not forgotten
			objects, err := n.objects()
			if err != nil {
				t.Fatal(err)
			}
			if began := n.knownSince(); began.After(knew) != (name != "kept") {
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

// knownSince is since when the node's agents say that they know all of its containers.
func (n *node) knownSince() time.Time {
	n.t.Helper()
	admin, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	var agent v1alpha1.NodeContainerAgent
	if err := admin.Get(n.t.Context(), client.ObjectKey{Name: n.name}, &agent); err != nil {
		n.t.Fatal(err)
	}
	return agent.Status.KnownSince.Time
}
