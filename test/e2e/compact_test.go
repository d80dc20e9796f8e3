package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Of a container of a pod, written by its agent and matched by the controller, the API server keeps 2 KiB at most, and no
// managedFields.
func TestTheObjectOfAPodsContainerIsCompact(t *testing.T) {
	needsOurNodes(t) // others may be older than 1.36
	beside(t)
	pod, _ := startPod(t, someNodes(t, 1)[0])
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		objects, err := objectsOf(ctx, pod)
		if err != nil {
			return err
		}
		if len(objects) != 1 {
			return fmt.Errorf("it has %d objects", len(objects))
		}
		o := &objects[0]
		if meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionSpecMatched) == nil || o.Status.State != v1alpha1.StateRunning {
			return fmt.Errorf("not all is there: %+v", o.Status)
		}
		if len(o.ManagedFields) > 0 {
			t.Fatalf("it has managedFields of %s and %d others", o.ManagedFields[0].Manager, len(o.ManagedFields)-1)
		}
		o.ResourceVersion = "" // not stored
		stored, err := json.Marshal(o)
		if t.Logf("%d bytes are stored: %s", len(stored), stored); len(stored) > 2048 {
			t.Error("that is more than 2 KiB")
		}
		return err
	})
}
