package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

func TestAnAgentThatIsToCreateNothingGoesOnWithTheRest(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	a := n.startAgent("--runtime-path", n.otherRuntime())
	old, kept := n.begin(nil), n.begin(nil)
	n.told(time.Minute, map[string]fate{old: running, kept: running})

	n.suspend(true)
	n.hearAgent()
	short, live := n.begin(nil), n.begin(nil)
	n.end(old, short)
	n.told(time.Minute, map[string]fate{old: ended(137), kept: running})
	n.suppressed(2, n.hearAgent)

	a.kill() // the next one does not begin with creating what this one did not
	n.startAgent("--runtime-path", n.otherRuntime())
	n.suppressed(2, n.hearAgent)
	n.told(time.Minute, map[string]fate{old: ended(137), kept: running})

	n.suspend(false)
	n.hearAgent()
	n.told(time.Minute, map[string]fate{old: ended(137), kept: running, short: ended(137), live: running})
	n.suppressed(0, func() {})
}

// suspend does what the controller does when there are too many objects.
func (n *node) suspend(yes bool) {
	n.t.Helper()
	c, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	agent, err := n.agentObject(c)
	if err != nil {
		n.t.Fatal(err)
	}
	before := agent.DeepCopy()
	agent.Spec.SuspendCreates = yes
	if err := c.Patch(n.t.Context(), agent, client.MergeFrom(before)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) agentObject(c client.Client) (*v1alpha1.NodeContainerAgent, error) {
	agent := &v1alpha1.NodeContainerAgent{}
	return agent, c.Get(n.t.Context(), client.ObjectKey{Name: n.name}, agent)
}

// otherRuntime is a file that is now there and now not.
func (n *node) otherRuntime() string { return n.runc + "-other" }

// hearAgent has the agent tell how it does, from which it learns what it may do, and waits until it has. It would by
// itself within a minute; that its runtimes have changed is news at once.
func (n *node) hearAgent() {
	n.t.Helper()
	c, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	add := os.Remove(n.otherRuntime()) != nil
	if add {
		if err := machine.Copy(n.runc, n.otherRuntime()); err != nil {
			n.t.Fatal(err)
		}
	}
	eventually(n.t, 2*time.Minute, "the agent tells of its runtimes", func() error {
		agent, err := n.agentObject(c)
		if err != nil {
			return err
		}
		if slices.Contains(agent.Status.Runtimes, n.otherRuntime()) != add {
			return fmt.Errorf("it holds %v", agent.Status.Runtimes)
		}
		return nil
	})
}

// suppressed waits until the agent says that it creates some objects not, and once more told says how many.
func (n *node) suppressed(count int32, again func()) {
	n.t.Helper()
	c, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	check := func(isRight func(got int32) bool) func() error {
		return func() error {
			agent, err := n.agentObject(c)
			if err != nil {
				return err
			}
			if agent.Status.SuppressedContainers == nil {
				return errors.New("it has not said anything")
			}
			if got := *agent.Status.SuppressedContainers; !isRight(got) {
				return fmt.Errorf("it says %d", got)
			}
			return nil
		}
	}
	eventually(n.t, 30*time.Second, "the agent says whether objects are suppressed", check(func(got int32) bool { return got > 0 == (count > 0) }))
	again()
	eventually(n.t, time.Second, fmt.Sprintf("the agent says that %d are suppressed", count), check(func(got int32) bool { return got == count }))
}
