package api

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/controller"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

func TestTheControllerEndsWhatWasThereBeforeAReboot(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "node-r")
	startController(t, plane, func(*controller.Options) {})
	reports := func(boot string, at time.Time) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-r"}}
		patchStatus(t, c, node, fmt.Sprintf(`{"status":{"nodeInfo":{"bootID":%q},"conditions":[
			{"type":"Ready","status":"True","lastHeartbeatTime":%q}]}}`, boot, at.UTC().Format(time.RFC3339)))
	}
	reports("first", time.Now().Add(-time.Minute))
	for _, boot := range []string{"first", "second"} {
		object := newContainerOf(nil, boot, "node-r", boot)
		object.Spec.BootID = boot
		tell(t, c, object)
	}
	// The agent is faster than the kubelet: of the second boot the Node does not know yet.
	stays(t, 3*time.Second, func() error {
		return errors.Join(is(t, c, "first", v1alpha1.StateRunning, v1alpha1.ReasonHook), is(t, c, "second", v1alpha1.StateRunning, v1alpha1.ReasonHook))
	})
	reports("second", time.Now().Add(time.Minute))
	eventually(t, 30*time.Second, func() error { return is(t, c, "first", v1alpha1.StateStopped, v1alpha1.ReasonRebooted) })
	stays(t, 3*time.Second, func() error { return is(t, c, "second", v1alpha1.StateRunning, v1alpha1.ReasonHook) })
}

// is returns an error unless a container is in that state, and observed for that reason.
func is(t *testing.T, c client.Client, name string, state v1alpha1.ContainerState, observed string) error {
	t.Helper()
	var object v1alpha1.NodeContainer
	if err := c.Get(t.Context(), client.ObjectKey{Name: name}, &object); err != nil {
		return err
	}
	if object.Status.State != state {
		return fmt.Errorf("%s is %s, not %s", name, object.Status.State, state)
	}
	return has(t, c, name, v1alpha1.ConditionObserved, observed)
}

// An agent has lost its checkpoint, and tells of one of two containers only: the other ended while no agent was there.
func TestTheControllerEndsWhatAnAgentHasForgotten(t *testing.T) {
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "node-f")
	startController(t, plane, func(*controller.Options) {})
	create(t, c, newAgent("node-f"))
	for _, name := range []string{"found", "forgotten"} {
		object := newContainerOf(nil, name, "node-f", name)
		object.Spec.Pod = v1alpha1.ContainerPod{Namespace: "default", Name: name, UID: name}
		object.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour))
		tell(t, c, object)
	}
	observedSince := time.Now().Add(2 * time.Second) // the objects were made before
	patchStatus(t, c, newContainer("found", ""), fmt.Sprintf(`{"status":{"conditions":[{"type":"Observed","status":"True","reason":%q,
		"message":"","lastTransitionTime":%q}]}}`, v1alpha1.ReasonListing, observedSince.UTC().Format(time.RFC3339)))
	beats := func(at time.Time) {
		patchStatus(t, c, newAgent("node-f"), fmt.Sprintf(`{"status":{"bootID":"boot","observedSince":%[1]q,"lastListTime":%[1]q,"heartbeatTime":%q}}`,
			observedSince.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339)))
	}
	// An object must be a minute old: it grows old beside the other tests.
	t.Parallel()

	beats(observedSince) // it may still be telling
	stays(t, 5*time.Second, func() error { return is(t, c, "forgotten", v1alpha1.StateRunning, v1alpha1.ReasonHook) })
	eventually(t, 2*time.Minute, func() error {
		beats(time.Now())
		return is(t, c, "forgotten", v1alpha1.StateStopped, v1alpha1.ReasonUnobserved)
	})
	stays(t, 3*time.Second, func() error { return is(t, c, "found", v1alpha1.StateRunning, v1alpha1.ReasonListing) })
}

// cluster is some nodes, on each of them an agent that can beat, and a container of the same name.
type cluster struct {
	nodes []string
	beats int
}

func newCluster(t *testing.T, plane *controlplane.ControlPlane, c client.Client, n int) *cluster {
	t.Helper()
	k := &cluster{}
	for i := range n {
		name := fmt.Sprintf("node-%d", i)
		newNode(t, plane, name)
		create(t, c, newAgent(name))
		tell(t, c, newContainerOf(nil, name, name, "c"))
		k.nodes = append(k.nodes, name)
	}
	return k
}

// beat has all agents beat but the first so many.
func (k *cluster) beat(t *testing.T, c client.Client, but int) {
	t.Helper()
	k.beats++
	for _, name := range k.nodes[but:] {
		beat(t, c, name, k.beats)
	}
}

// observed returns an error unless Observed of all containers but the first so many has the reason Hook.
func (k *cluster) observed(t *testing.T, c client.Client, but int, reason string) error {
	t.Helper()
	var errs []error
	for i, name := range k.nodes {
		want := v1alpha1.ReasonHook
		if i < but {
			want = reason
		}
		errs = append(errs, has(t, c, name, v1alpha1.ConditionObserved, want))
	}
	return errors.Join(errs...)
}

func TestTheControllerSaysWhenAnAgentIsLostAndWhenItIsBack(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	startController(t, plane, func(o *controller.Options) { o.AgentLostAfter = 6 * time.Second })
	k := newCluster(t, plane, c, 4)
	k.beat(t, c, 0)
	eventually(t, 60*time.Second, func() error {
		k.beat(t, c, 1)
		return errors.Join(k.observed(t, c, 1, v1alpha1.ReasonAgentLost), isReady(t, c, "node-0", v1alpha1.ReasonAgentLost))
	})
	stays(t, 8*time.Second, func() error {
		k.beat(t, c, 1)
		return errors.Join(k.observed(t, c, 1, v1alpha1.ReasonAgentLost), isReady(t, c, "node-1", v1alpha1.ReasonListed))
	})
	if n := len(names(t, c, "node-0")); n != 1 {
		t.Error("the container of a lost agent was deleted")
	}
	eventually(t, 60*time.Second, func() error {
		k.beat(t, c, 0)
		return k.observed(t, c, 1, v1alpha1.ReasonListing)
	})

	agent := newAgent("node-0")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(agent), agent); err != nil {
		t.Fatal(err)
	}
	var events corev1.EventList
	if err := c.List(t.Context(), &events); err != nil {
		t.Fatal(err)
	}
	told := make(map[string]int)
	for _, e := range events.Items {
		if e.InvolvedObject.Kind == v1alpha1.NodeContainerKind {
			t.Errorf("an event of a container: %s", e.Reason)
		}
		if e.InvolvedObject.UID == agent.UID { // a test before may have had one of that name
			told[e.Reason]++
		}
	}
	if told[v1alpha1.ReasonAgentLost] == 0 || told["AgentBack"] == 0 {
		t.Errorf("events of the agent: %v", told)
	}
}

func isReady(t *testing.T, c client.Client, node, reason string) error {
	t.Helper()
	agent := newAgent("")
	if err := c.Get(t.Context(), client.ObjectKey{Name: node}, agent); err != nil {
		return err
	}
	got := ""
	for _, condition := range agent.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			got = condition.Reason
		}
	}
	if got != reason {
		return fmt.Errorf("Ready of agent %s is %q, not %q", node, got, reason)
	}
	return nil
}

// When half of the agents are silent it is rather the network, or the API server: nothing is said of their containers.
func TestTheControllerSaysNothingOfAMassOutage(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	startController(t, plane, func(o *controller.Options) { o.AgentLostAfter = 6 * time.Second })
	k := newCluster(t, plane, c, 4)
	k.beat(t, c, 0)
	stays(t, 20*time.Second, func() error {
		k.beat(t, c, 2)
		return k.observed(t, c, 0, "")
	})
	eventually(t, 60*time.Second, func() error { // one alone is no mass
		k.beat(t, c, 1)
		return k.observed(t, c, 1, v1alpha1.ReasonAgentLost)
	})
}

func TestTheControllerStopsCreatesAboveTheCap(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	r := startController(t, plane, func(o *controller.Options) { o.MaxObjects = 10 })
	create(t, c, newAgent("node-1"))
	create(t, c, newAgent("node-2"))
	add := func(from, to int) {
		for i := from; i < to; i++ {
			create(t, c, newContainer(fmt.Sprintf("breaker-%d", i), "node-1"))
		}
	}
	is := func(suspended bool, open, objects float64) func() error {
		return func() error {
			var list v1alpha1.NodeContainerAgentList
			if err := c.List(t.Context(), &list); err != nil {
				return err
			}
			for _, agent := range list.Items {
				if agent.Spec.SuspendCreates != suspended {
					return fmt.Errorf("suspendCreates of %s is %v", agent.Name, agent.Spec.SuspendCreates)
				}
			}
			got := []float64{r.metric(t, "containerhook_breaker_open", ""), r.metric(t, "containerhook_objects", "")}
			if got[0] != open || got[1] != objects {
				return fmt.Errorf("breaker and objects are %v", got)
			}
			return nil
		}
	}
	add(0, 9)
	eventually(t, 30*time.Second, is(false, 0, 9))
	add(9, 10)
	eventually(t, 30*time.Second, is(true, 1, 10))
	create(t, c, newAgent("node-3")) // one that comes later is told too
	eventually(t, 30*time.Second, is(true, 1, 10))
	remove := func(i int) {
		if err := c.Delete(t.Context(), newContainer(fmt.Sprintf("breaker-%d", i), "")); err != nil {
			t.Fatal(err)
		}
	}
	remove(0) // just below the cap is not enough
	eventually(t, 30*time.Second, is(true, 1, 9))
	remove(1)
	eventually(t, 30*time.Second, is(false, 0, 8))
	if n := r.metric(t, "containerhook_unmatched_objects", v1alpha1.ReasonNotKubernetes); n != 8 {
		t.Errorf("%v have no pod", n)
	}
}
