package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestUninstallLeavesTheDefinitionsAndTheirObjectsAndAnInstallTakesThemOver(t *testing.T) {
	needsOurNodes(t)
	pod, _ := startPod(t, "")
	id := idOf(pod.Status.ContainerStatuses[0].ContainerID)
	eventually(t, 20*time.Second, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })
	object, err := objectOf(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defined := definitions(t)
	same := func(when string) {
		t.Helper()
		if o, err := objectOf(t.Context(), id); err != nil || o.UID != object.UID {
			t.Errorf("%s its object is another one, %v", when, err)
		}
		if diff := cmp.Diff(defined, definitions(t)); diff != "" || len(defined) != 2 {
			t.Errorf("%s (-before +now):\n%s", when, diff)
		}
	}
	t.Run("gone", func(t *testing.T) {
		uninstall(t)
		eventually(t, time.Minute, func(ctx context.Context) error {
			return errors.Join(nothingButDefinitionsIsLeft(ctx), nothingIsElected(ctx))
		})
		same("after the uninstall")
	})
	same("after the install")
	eventually(t, 20*time.Second, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })
	agree(t)
}

func TestUninstallLeavesNothingWhereTheDefinitionsAreNotKept(t *testing.T) {
	needsOurNodes(t)
	t.Run("gone", func(t *testing.T) {
		values := installed(t)
		mustHelm(t, "helm4", "upgrade", releaseName, chart, "--values", values, "--set", "crds.keep=false", "--wait")
		uninstall(t, values)
		eventually(t, time.Minute, func(ctx context.Context) error {
			if left := definitions(t); len(left) > 0 {
				return fmt.Errorf("definitions are left: %v", left)
			}
			return errors.Join(nothingButDefinitionsIsLeft(ctx), nothingIsElected(ctx))
		})
	})
	agree(t)
}

// uninstall removes the release. At the end of the test it is installed again with the values that it had, or those that
// are named.
func uninstall(t *testing.T, values ...string) {
	t.Helper()
	values = append(values, installed(t))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		if _, err := helm(ctx, "helm4", "install", releaseName, chart, "--namespace", system, "--values", values[0], "--wait"); err != nil {
			t.Error(err)
		}
	})
	mustHelm(t, "helm4", "uninstall", releaseName, "--wait")
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
