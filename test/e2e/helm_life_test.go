package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// release is the chart in our cluster while it lives its life.
type release struct {
	values  string               // a file with those it was installed with, for another install to have the same
	defined map[string]types.UID // the definitions, while they are kept
	pod     *corev1.Pod          // lives through all of it
	id      string               // of its container
	object  types.UID            // of its container's object, while the definitions are kept
}

// helm4 has installed the release before this test, and does so again at its end. Between that each Helm does all that it
// can with it: one step after another, for each takes a while.
func TestTheChartLivesAWholeLifeWithBothHelms(t *testing.T) {
	needsOurNodes(t)
	r := newRelease(t)
	steps := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"helm4 tests it", func(t *testing.T) { r.check(t, "helm4") }},
		{"helm4 upgrades it while pods start", func(t *testing.T) { r.upgrade(t, "helm4") }},
		{"helm4 rolls it back", func(t *testing.T) { r.rollBack(t, "helm4") }},
		{"helm4 uninstalls it and leaves the definitions and their objects", func(t *testing.T) { r.uninstall(t, "helm4") }},
		{"helm3 installs it and takes them over", func(t *testing.T) { r.install(t, "helm3") }},
		{"helm3 tests it", func(t *testing.T) { r.check(t, "helm3") }},
		{"helm3 upgrades it at once while pods start", func(t *testing.T) { r.upgrade(t, "helm3", "--set", "agent.maxUnavailable=100%") }},
		{"helm3 rolls it back", func(t *testing.T) { r.rollBack(t, "helm3") }},
		{"helm3 uninstalls it and leaves nothing where the definitions are not kept", func(t *testing.T) { r.uninstallAll(t, "helm3") }},
		{"helm4 installs it", func(t *testing.T) { r.install(t, "helm4") }},
	}
	for _, step := range steps {
		if !t.Run(step.name, step.do) {
			t.Fatal("what comes after that was not tried")
		}
	}
}

func newRelease(t *testing.T) *release {
	t.Helper()
	r := &release{values: filepath.Join(t.TempDir(), "values.yaml"), defined: definitions(t)}
	if len(r.defined) != 2 {
		t.Fatalf("before all the definitions are %v", r.defined)
	}
	values := mustHelm(t, "helm4", "get", "values", releaseName, "--output", "yaml")
	if err := os.WriteFile(r.values, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		if _, err := helm(ctx, "helm4", "upgrade", "--install", releaseName, chart, "--values", r.values, "--namespace", system,
			"--wait", "--timeout", "3m"); err != nil {
			t.Error(err)
		}
	})

	r.pod, _ = startPod(t, someNodes(t, 1)[0])
	r.id = idOf(r.pod.Status.ContainerStatuses[0].ContainerID)
	eventually(t, matchedWithin, func(ctx context.Context) error { return runsAs(ctx, r.id, v1alpha1.ReasonMatched) })
	object, err := objectOf(t.Context(), r.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := sandboxesOf(t.Context(), r.pod, 0); err != nil {
		t.Error(err)
	}
	r.object = object.UID
	return r
}

// mustHelmWait is mustHelm for what changes a release.
func mustHelmWait(t *testing.T, version string, args ...string) {
	t.Helper()
	mustHelm(t, version, append(args, "--wait", "--timeout", "3m")...)
}

func (r *release) install(t *testing.T, version string) {
	mustHelmWait(t, version, "install", releaseName, chart, "--values", r.values)
	r.isKept(t)
	eventually(t, matchedWithin, func(ctx context.Context) error { return runsAs(ctx, r.id, v1alpha1.ReasonMatched) })
	agree(t)
}

// isKept fails the test where definitions or the object are not the ones of before.
func (r *release) isKept(t *testing.T) {
	t.Helper()
	if r.defined == nil {
		return
	}
	if o, err := objectOf(t.Context(), r.id); err != nil || o.UID != r.object {
		t.Errorf("the pod's object is another one, %v", err)
	}
	if diff := cmp.Diff(r.defined, definitions(t)); diff != "" {
		t.Errorf("definitions (-before +now):\n%s", diff)
	}
}

// check runs the chart's own test, and finds no sandbox among the objects.
func (r *release) check(t *testing.T, version string) {
	mustHelm(t, version, "test", releaseName, "--timeout", "2m")
	other, _ := startPod(t, someNodes(t, 1)[0])
	agree(t)
	if err := sandboxesOf(t.Context(), other, 0); err != nil {
		t.Error(err)
	}
}

// upgrade asks for sandboxes. Pods start meanwhile as they do without, and all have an object of their sandbox in the end.
func (r *release) upgrade(t *testing.T, version string, flags ...string) {
	nodes := someNodes(t, 2)
	usual := usualStart(t, nodes[0])
	before := runningAgent(t, nodes[1], nil)
	var longest []func() time.Duration
	for _, node := range nodes {
		longest = append(longest, execs(t, node))
	}
	upgraded := make(chan error, 1)
	go func() {
		_, err := helm(t.Context(), version, append(flags, "upgrade", releaseName, chart, "--namespace", system, "--reuse-values",
			"--set", "agent.sandboxes=true", "--wait", "--timeout", "3m")...)
		upgraded <- err
	}()

	var pods []*corev1.Pod
	var starts []time.Duration
	for isDone := false; !isDone; {
		pod, took := startPod(t, nodes[len(pods)%2])
		pods, starts = append(pods, pod), append(starts, took)
		select {
		case err := <-upgraded:
			if err != nil {
				t.Fatal(err)
			}
			isDone = true
		default:
		}
	}
	compare(t, starts, usual, "agents are upgraded")
	for _, stop := range longest {
		stop()
	}
	runningAgent(t, nodes[1], before)
	after, _ := startPod(t, nodes[0])
	for _, pod := range append(pods, r.pod, after) {
		eventually(t, time.Minute, func(ctx context.Context) error { return sandboxesOf(ctx, pod, 1) })
	}
	agree(t)
}

// rollBack goes back to the revision before, which asks for no sandboxes. Those that have an object keep it.
func (r *release) rollBack(t *testing.T, version string) {
	mustHelmWait(t, version, "rollback", releaseName)
	nodes := someNodes(t, 2)
	for _, node := range nodes {
		runningAgent(t, node, nil)
	}
	other, _ := startPod(t, nodes[0])
	agree(t)
	if err := sandboxesOf(t.Context(), other, 0); err != nil {
		t.Error(err)
	}
}

func (r *release) uninstall(t *testing.T, version string) {
	mustHelmWait(t, version, "uninstall", releaseName)
	eventually(t, time.Minute, func(ctx context.Context) error {
		return errors.Join(nothingButDefinitionsIsLeft(ctx), nothingIsElected(ctx))
	})
	r.isKept(t)
}

// uninstallAll has the definitions go too, and with them all objects.
func (r *release) uninstallAll(t *testing.T, version string) {
	mustHelmWait(t, version, "upgrade", releaseName, chart, "--reuse-values", "--set", "crds.keep=false")
	mustHelmWait(t, version, "uninstall", releaseName)
	eventually(t, time.Minute, func(ctx context.Context) error {
		if left := definitions(t); len(left) > 0 {
			return fmt.Errorf("definitions are left: %v", left)
		}
		return errors.Join(nothingButDefinitionsIsLeft(ctx), nothingIsElected(ctx))
	})
	r.defined = nil
}

// sandboxesOf says where a pod does not have that many sandboxes, running and matched.
func sandboxesOf(ctx context.Context, pod *corev1.Pod, want int) error {
	objects, err := objectsOf(ctx, pod)
	if err != nil {
		return err
	}
	found := 0
	for _, o := range objects {
		if o.Spec.Type != v1alpha1.TypeSandbox {
			continue
		}
		found++
		if o.Status.State != v1alpha1.StateRunning || conditionOf(&o, v1alpha1.ConditionPodMatched) != isMatched {
			return fmt.Errorf("%s is %s, %+v", o.Name, o.Status.State, o.Status.Conditions)
		}
	}
	if found != want {
		return fmt.Errorf("pod %s has %d sandboxes, not %d", pod.Name, found, want)
	}
	return nil
}

// definitions are those of our kinds that there are.
func definitions(t *testing.T) map[string]types.UID {
	t.Helper()
	found := map[string]types.UID{}
	for _, name := range []string{"nodecontainers.containerhook.io", "nodecontaineragents.containerhook.io"} {
		definition := &metav1.PartialObjectMetadata{}
		definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := api.Get(t.Context(), client.ObjectKey{Name: name}, definition)
		switch {
		case err == nil:
			found[name] = definition.UID
		case !apierrors.IsNotFound(err):
			t.Fatal(err)
		}
	}
	return found
}

// nothingIsElected says whether there is a lease in the chart's namespace: what makes one there is the controller.
func nothingIsElected(ctx context.Context) error {
	leases := &metav1.PartialObjectMetadataList{}
	leases.SetGroupVersionKind(schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "LeaseList"})
	if err := api.List(ctx, leases, client.InNamespace(system)); err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	if len(leases.Items) > 0 {
		return fmt.Errorf("the lease %s is left", leases.Items[0].Name)
	}
	return nil
}
