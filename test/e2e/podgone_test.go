package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestAContainerThatOutlivesItsPodIsKeptAsPodGone(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 0)
	pod, _ := startPod(t, node)
	id := idOf(pod.Status.ContainerStatuses[0].ContainerID)
	eventually(t, matchedWithin, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })

	resume := stopKubelet(t, node) // which would end the container with its pod
	if err := api.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, matchedWithin, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonPodGone) })
	always(t, 3*time.Second, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonPodGone) })

	resume()
	eventually(t, time.Minute, func(ctx context.Context) error { return hasEnded(ctx, id) })
	agree(t, node)
}

func TestAContainerThatEndsWithItsPodIsNotKept(t *testing.T) {
	beside(t)
	pod, _ := startPod(t, "")
	id := idOf(pod.Status.ContainerStatuses[0].ContainerID)
	eventually(t, matchedWithin, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })
	if err := api.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error { return isGone(ctx, id) })
	agree(t)
}

func TestTheContainersOfANodeThatIsDeletedGoWithinSeconds(t *testing.T) {
	needsOurNodes(t)
	gone, stays := alone(t, 1), someNodes(t, 1)[0]
	bystander, _ := startPod(t, stays)
	startPod(t, gone)
	id := idOf(bystander.Status.ContainerStatuses[0].ContainerID)
	// Another test may have stopped the agent there.
	eventually(t, 2*time.Minute, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })
	t.Run("gone", func(t *testing.T) {
		t.Cleanup(func() { bringBack(t, gone) })
		if _, err := cluster(t.Context(), "crash", gone); err != nil {
			t.Fatal(err)
		}
		if n, err := countOn(t.Context(), gone); err != nil || n < 2 {
			t.Fatalf("%d objects of %s, %v", n, gone, err)
		}
		if err := api.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: gone}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			n, err := countOn(ctx, gone)
			if err == nil && n > 0 {
				err = fmt.Errorf("%d objects of %s are left", n, gone)
			}
			return err
		})
		t.Logf("gone %v after their node", time.Since(began).Round(time.Millisecond))
		if err := runsAs(t.Context(), id, v1alpha1.ReasonMatched); err != nil {
			t.Errorf("on the other node: %v", err)
		}
	})
	agree(t, gone)
}

// bringBack boots a node of ours, for cleanups, until its agent is ready.
func bringBack(t *testing.T, node string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := cluster(ctx, "boot", node); err != nil {
		t.Error(err)
	}
	if err := poll(ctx, func() error { return hasReadyAgent(ctx, node) }); err != nil {
		t.Error(err)
	}
}

// runsAs says where a container does not run, or its PodMatched has another reason.
func runsAs(ctx context.Context, id, reason string) error {
	o, err := objectOf(ctx, id)
	if err != nil {
		return err
	}
	matched := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionPodMatched)
	if o.Status.State != v1alpha1.StateRunning || matched == nil || matched.Reason != reason {
		return fmt.Errorf("it is %s, PodMatched %+v", o.Status.State, matched)
	}
	return nil
}

// hasEnded says where a container has an object that is not Stopped: it may have none any more.
func hasEnded(ctx context.Context, id string) error {
	if isGone(ctx, id) == nil {
		return nil
	}
	o, err := objectOf(ctx, id)
	if err == nil && o.Status.State != v1alpha1.StateStopped {
		err = fmt.Errorf("it is %s", o.Status.State)
	}
	return err
}

func isGone(ctx context.Context, id string) error {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldContainerID: id}); err != nil {
		return fmt.Errorf("list NodeContainers: %w", err)
	}
	if len(list.Items) > 0 {
		return fmt.Errorf("it still has an object: %s", list.Items[0].Status.State)
	}
	return nil
}

// countOn counts what there is of a node: its containers and its agent.
func countOn(ctx context.Context, node string) (int, error) {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldNodeName: node}); err != nil {
		return 0, fmt.Errorf("list NodeContainers: %w", err)
	}
	err := api.Get(ctx, client.ObjectKey{Name: node}, &v1alpha1.NodeContainerAgent{})
	switch {
	case apierrors.IsNotFound(err):
		return len(list.Items), nil
	case err != nil:
		return 0, fmt.Errorf("get the agent of %s: %w", node, err)
	}
	return len(list.Items) + 1, nil
}

// always fails the test when ok says something at any time of a while.
func always(t *testing.T, while time.Duration, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), while)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := ok(ctx); err != nil && ctx.Err() == nil {
			t.Fatalf("no longer so: %v", err)
		}
		<-tick.C
	}
}

// stopKubelet has the kubelet of a node of ours do nothing until the returned function is called, or the test ends.
func stopKubelet(t *testing.T, node string) (resume func()) {
	t.Helper()
	pid := strings.TrimSpace(onNode(t, node, "pidof", "-s", "kubelet"))
	onNode(t, node, "kill", "-STOP", pid)
	resume = func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := cluster(ctx, "exec", node, "kill", "-CONT", pid); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(resume)
	return resume
}
