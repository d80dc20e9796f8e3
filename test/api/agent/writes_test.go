package agent

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// coalesced is how long a change of status waits for the next one, less some time for the agent to see both.
const coalesced = 200 * time.Millisecond

// lifeAsked is what may be asked of a container that ended: each state once, and those left out that soon were another.
var lifeAsked = regexp.MustCompile(`^create( Creating)?( Created)?( Running)? Stopped$`)

// TestEachTransitionIsOneWriteAndNothingElseIs counts at the API server's door, where a write that changes nothing shows,
// and in the store, where one that did.
func TestEachTransitionIsOneWriteAndNothingElseIs(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	n.startAgent("--list-interval", "1s") // what it finds is known, and must not be written again

	short := n.newID()
	bundle := n.bundle(short, nil, "exit", "0")
	n.must("run", "--bundle", bundle, short) // runc deletes it too

	usual := n.begin(nil)
	n.object(usual, running)

	slow := n.newID()
	bundle = n.bundle(slow, nil, "sleep")
	began := time.Now()
	n.must("create", "--bundle", bundle, slow)
	creating := time.Since(began)
	n.object(slow, fate{State: v1alpha1.StateCreated, Exit: -1})
	n.must("start", slow)
	n.object(slow, running)

	listed := time.Now().Add(3 * time.Second) // and with them three listings
	n.end(usual, slow)
	n.object(slow, ended(137))
	for _, id := range []string{usual, slow} {
		n.must("delete", id)
	}
	eventually(t, time.Minute, "three listings", func() error { return after(listed) })

	s := n.object(short, ended(0))
	n.checkAsked(s, "create Stopped", s.Status.FinishTime.Sub(s.Status.CreateTime.Time))
	u := n.object(usual, ended(137))
	n.checkAsked(u, "create Running Stopped", u.Status.StartTime.Sub(u.Status.CreateTime.Time))
	n.checkAsked(n.object(slow, ended(137)), "create Created Running Stopped", creating)
}

// checkAsked checks what was asked of a container that ended: exactly that, where what was to be coalesced took no longer
// than it can have been.
func (n *node) checkAsked(c *v1alpha1.NodeContainer, want string, took time.Duration) {
	n.t.Helper()
	asked := n.proxy.asking(c.Name)
	switch {
	case !lifeAsked.MatchString(asked):
		n.t.Errorf("asked: %s", asked)
	case took < coalesced && asked != want:
		n.t.Errorf("%v\nasked: %s\n want: %s", took, asked, want)
	}
	if got, want := n.writesOf(n.t, c.Name), strings.Count(asked, " ")+1; got != int64(want) {
		n.t.Errorf("%s was stored %d times", asked, got)
	}
	n.t.Logf("within %v: %s", took, asked)
}
