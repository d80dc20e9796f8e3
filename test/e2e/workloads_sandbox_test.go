package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestASandboxIsAnObjectOnlyWhereThatIsAskedFor(t *testing.T) {
	before, _ := startPod(t, "")
	if err := sandboxesOf(t.Context(), string(before.UID), 0); err != nil {
		t.Fatal(err)
	}
	t.Run("it is one of every pod then", func(t *testing.T) {
		addAgentArgument(t, "--sandboxes")
		after, _ := startPod(t, "")
		for _, uid := range []string{string(before.UID), string(after.UID)} {
			eventually(t, 20*time.Second, func(ctx context.Context) error { return sandboxesOf(ctx, uid, 1) })
		}
	})
	again, _ := startPod(t, "")
	if err := sandboxesOf(t.Context(), string(again.UID), 0); err != nil {
		t.Error(err)
	}
	agree(t)
}

// sandboxesOf says where a pod does not have that many sandboxes, running and matched.
func sandboxesOf(ctx context.Context, uid string, want int) error {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{
		v1alpha1.FieldPodUID: uid, v1alpha1.FieldType: string(v1alpha1.TypeSandbox)}); err != nil {
		return fmt.Errorf("list sandboxes: %w", err)
	}
	if len(list.Items) != want {
		return fmt.Errorf("pod %s has %d sandboxes, not %d", uid, len(list.Items), want)
	}
	for _, o := range list.Items {
		if o.Status.State != v1alpha1.StateRunning || !meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionPodMatched) {
			return fmt.Errorf("%s is %s, %+v", o.Name, o.Status.State, o.Status.Conditions)
		}
	}
	return nil
}

// addAgentArgument has all agents run with one more argument until the test ends.
func addAgentArgument(t *testing.T, argument string) {
	t.Helper()
	setAgentArguments(t.Context(), t, func(args []string) []string { return append(args, argument) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		setAgentArguments(ctx, t, func(args []string) []string {
			return slices.DeleteFunc(args, func(a string) bool { return a == argument })
		})
	})
}

func setAgentArguments(ctx context.Context, t *testing.T, change func([]string) []string) {
	t.Helper()
	set, err := agents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := set.DeepCopy()
	c := &set.Spec.Template.Spec.Containers[0]
	c.Args = change(c.Args)
	if err := api.Patch(ctx, set, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	if err := poll(ctx, func() error { return rolledOut(ctx) }); err != nil {
		t.Fatal(err)
	}
}

// agents is the chart's DaemonSet.
func agents(ctx context.Context) (*appsv1.DaemonSet, error) {
	var list appsv1.DaemonSetList
	if err := api.List(ctx, &list, agentLabels); err != nil {
		return nil, fmt.Errorf("list agents' DaemonSets: %w", err)
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("list agents' DaemonSets: there are %d", len(list.Items))
	}
	return &list.Items[0], nil
}

// rolledOut says what is missing until every agent is as the DaemonSet has it, and ready.
func rolledOut(ctx context.Context) error {
	set, err := agents(ctx)
	if err != nil {
		return err
	}
	s := set.Status
	if s.ObservedGeneration < set.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.NumberReady < s.DesiredNumberScheduled {
		return errors.New("agents are not rolled out")
	}
	return nil
}
