package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/controller"
)

func isNot(all []string, name string) error {
	if slices.Contains(all, name) {
		return fmt.Errorf("there is %s, of %q", name, all)
	}
	return nil
}

// isAll returns an error unless all of them, in any order, are want.
func isAll(all []string, want ...string) error {
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		return fmt.Errorf("there are %q, not %q", all, want)
	}
	return nil
}

func TestTheControllerDeletesWhatStoppedAfterItsTime(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newShop(t, c)
	newNode(t, plane, "node-t")
	r := startController(t, plane, func(o *controller.Options) { o.StoppedTTL, o.UnmatchedStoppedTTL = 4*time.Second, 12*time.Second })
	pod := newPod("ttl", "node-t", "of-pod")
	tell(t, c, pod)
	for _, name := range []string{"of-pod", "runs"} {
		tell(t, c, newContainerOf(pod, name, "node-t", "of-pod"))
	}
	for _, name := range []string{"of-nobody", "runs-of-nobody"} {
		tell(t, c, newContainerOf(nil, name, "node-t", name))
	}
	for _, name := range []string{"of-pod", "runs"} {
		eventually(t, 30*time.Second, func() error { return has(t, c, name, v1alpha1.ConditionPodMatched, v1alpha1.ReasonMatched) })
	}
	stop(t, c, "of-pod")
	stop(t, c, "of-nobody")
	stays(t, 3*time.Second, func() error { return isAll(names(t, c, "node-t"), "of-nobody", "of-pod", "runs", "runs-of-nobody") })
	eventually(t, 30*time.Second, func() error { return isAll(names(t, c, "node-t"), "of-nobody", "runs", "runs-of-nobody") })
	eventually(t, 30*time.Second, func() error { return isAll(names(t, c, "node-t"), "runs", "runs-of-nobody") })
	for _, reason := range []string{"ttl", "unmatched_ttl"} {
		if n := r.metric(t, "containerhook_gc_deleted_total", reason); n != 1 {
			t.Errorf("%v were deleted for %s", n, reason)
		}
	}
	for _, request := range r.requests.with("nodecontainers") {
		if !strings.Contains(request, `"uid":`) || !strings.Contains(request, `"resourceVersion":`) {
			t.Errorf("what was deleted could be another: %s", request)
		}
	}
}

func TestTheControllerKeepsTheLastTenOfAName(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "node-k")
	r := startController(t, plane, func(*controller.Options) {})
	var want []string
	for i := range 12 {
		name := fmt.Sprintf("again-%02d", i)
		object := newContainerOf(nil, name, "node-k", name)
		ended := metav1.NewMicroTime(time.Now().Add(time.Duration(i) * time.Minute))
		object.Spec.Name, object.Status.State, object.Status.FinishTime = "again", v1alpha1.StateStopped, &ended
		tell(t, c, object)
		other := newContainerOf(nil, "other-"+name, "node-k", name)
		other.Spec.Name, other.Status.State = name, v1alpha1.StateStopped
		tell(t, c, other)
		want = append(want, other.Name)
		if i >= 2 {
			want = append(want, name)
		}
	}
	eventually(t, 30*time.Second, func() error { return isAll(names(t, c, "node-k"), want...) })
	stays(t, 3*time.Second, func() error { return isAll(names(t, c, "node-k"), want...) })
	if n := r.metric(t, "containerhook_gc_deleted_total", "too_many"); n != 2 {
		t.Errorf("%v were too many", n)
	}
}

func TestTheControllerDeletesANodeThatIsGoneAtOnce(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	gone, back := newNode(t, plane, "node-gone"), newNode(t, plane, "node-back")
	newNode(t, plane, "node-here")
	for _, node := range []string{"node-gone", "node-back", "node-here", "node-speaks"} {
		for i := range 5 {
			tell(t, c, newContainerOf(nil, fmt.Sprintf("%s-%d", node, i), node, "c"))
		}
		create(t, c, newAgent(node))
	}
	r := startController(t, plane, func(o *controller.Options) { o.NodeGoneAfter = 5 * time.Second })
	for _, node := range []client.Object{gone, back} {
		if err := c.Delete(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	newNode(t, plane, "node-back") // deleted by mistake: its kubelet registers it again
	beats := 0
	eventually(t, 60*time.Second, func() error {
		beats++ // there is no Node of it, but its agent goes on
		beat(t, c, "node-speaks", beats)
		return isAll(names(t, c, "node-gone"))
	})
	for _, node := range []string{"node-back", "node-here", "node-speaks"} {
		if n := len(names(t, c, node)); n != 5 {
			t.Errorf("%d of 5 are left of %s", n, node)
		}
	}
	if n := r.requests.with("nodecontainers"); len(n) != 1 || !strings.Contains(n[0], "nodecontainers?fieldSelector=spec.nodeName%3Dnode-gone") {
		t.Errorf("not one request: %q", n)
	}
	eventually(t, 10*time.Second, func() error { return isAll(agents(t, c), "node-back", "node-here", "node-speaks") })
	if n := r.metric(t, "containerhook_gc_deleted_total", "node_gone"); n != 5 {
		t.Errorf("%v were deleted with their node", n)
	}
}

// Kubernetes' garbage collector deletes what a node owns, where the controller does not run.
func TestANodeThatIsGoneTakesItsObjectsWithIt(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	for _, name := range []string{"node-gone", "node-here"} {
		node := newNode(t, plane, name)
		owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: node.UID}}
		object, agent := newContainer("of-"+name, name), newAgent(name)
		object.OwnerReferences, agent.OwnerReferences = owner, owner
		create(t, c, object)
		create(t, c, agent)
	}
	if err := plane.StartControllerManager("garbage-collector-controller"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.StopControllerManager)
	if err := c.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-gone"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() error { return errors.Join(isAll(names(t, c, "node-gone")), isAll(agents(t, c), "node-here")) })
	stays(t, 3*time.Second, func() error {
		return errors.Join(isAll(names(t, c, "node-here"), "of-node-here"), isAll(agents(t, c), "node-here"))
	})
}
