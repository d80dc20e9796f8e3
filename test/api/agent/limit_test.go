package agent

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// TestContainersBeyondTheLimitAreCounted: of more living containers than the agent may report as many have an object as it
// may, and its own object counts the rest. The next agent, which may report all, has all of them, with their facts.
func TestContainersBeyondTheLimitAreCounted(t *testing.T) {
	t.Parallel()
	const limit = 100
	count := machine.Volume(limit+30, 1200)
	n := newNode(t, plane)
	c, err := administrator(plane)
	if err != nil {
		t.Fatal(err)
	}
	a := n.startAgent(fmt.Sprintf("--max-containers=%d", limit), "--runtime-path", n.otherRuntime())
	var ids []string
	for range count {
		ids = append(ids, n.begin(nil))
	}
	eventually(t, 2*time.Minute, "the rest is counted", func() error {
		n.hearAgent() // it says so by itself once a minute
		agent, err := n.agentObject(c)
		if err != nil {
			return err
		}
		objects, err := n.objects()
		if err != nil {
			return err
		}
		if got := ptr.Deref(agent.Status.DroppedContainers, 0); got != int64(count-limit) || len(objects) != limit {
			return fmt.Errorf("%d objects, %d left out", len(objects), got)
		}
		return nil
	})
	a.stop()

	n.startAgent()
	eventually(t, 2*time.Minute, "all are there with their facts", func() error {
		objects, err := n.objects()
		if err != nil {
			return err
		}
		running, facts := 0, 0
		for _, o := range objects {
			if o.Status.State == v1alpha1.StateRunning {
				running++
			}
			if o.Spec.Entrypoint != "" {
				facts++
			}
		}
		if running != count || facts != count {
			return fmt.Errorf("%d of %d run, %d have their facts", running, count, facts)
		}
		return nil
	})
	n.end(ids...)
}
