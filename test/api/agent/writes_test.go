package agent

import (
	"testing"
	"time"
)

// TestEachTransitionIsOneWriteAndNothingElseIs counts at the API server's door, where a write that changes nothing shows,
// and in the store, where one that did.
func TestEachTransitionIsOneWriteAndNothingElseIs(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	n.startAgent("--list-interval", "1s") // what it finds is known, and must not be written again

	short := n.newID()
	bundle := n.bundle(short, nil, "exit", "0")
	n.must("run", "--bundle", bundle, short) // runc deletes it too
	shortest := n.object(short, ended(0))

	usual := n.begin(nil)
	n.object(usual, running)

	slow := n.newID()
	n.must("create", "--bundle", n.bundle(slow, nil, "sleep"), slow)
	n.object(slow, fate{State: "Created", Exit: -1})
	n.must("start", slow)
	n.object(slow, running)

	listed := time.Now().Add(3 * time.Second) // and with them three listings
	n.end(usual, slow)
	n.object(slow, ended(137))
	for _, id := range []string{usual, slow} {
		n.must("delete", id)
	}
	eventually(t, time.Minute, "three listings", func() error { return after(listed) })

	for want, c := range map[string]struct {
		name   string
		stored int64
	}{
		"create Stopped":                 {shortest.Name, 2},
		"create Running Stopped":         {n.object(usual, ended(137)).Name, 3},
		"create Created Running Stopped": {n.object(slow, ended(137)).Name, 4},
	} {
		if got := n.proxy.asking(c.name); got != want {
			t.Errorf("asked: %s\n want: %s", got, want)
		}
		if got := n.writesOf(t, c.name); got != c.stored {
			t.Errorf("%s was stored %d times, not %d", want, got, c.stored)
		}
	}
}
