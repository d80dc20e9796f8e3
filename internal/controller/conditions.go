package controller

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// Owners of the fields that the controller applies. What an owner leaves out of its next apply is removed: what is
// judged at different times has different owners.
const (
	ownerOfMatch    = client.FieldOwner("containerhook-controller")
	ownerOfObserved = client.FieldOwner("containerhook-controller-observed")
	ownerOfComplete = client.FieldOwner("containerhook-controller-complete")
)

// condition returns f as a condition of the type, and whether it is another one than among before. It keeps its time
// as long as its status is the same.
func condition(before []metav1.Condition, kind string, f finding, now time.Time) (*applymeta.ConditionApplyConfiguration, bool) {
	since := metav1.NewTime(now.Truncate(time.Second))
	old := meta.FindStatusCondition(before, kind)
	if old != nil && old.Status == f.status {
		since = old.LastTransitionTime
	}
	changed := old == nil || old.Status != f.status || old.Reason != f.reason || old.Message != f.message
	return applymeta.Condition().WithType(kind).WithStatus(f.status).WithReason(f.reason).WithMessage(f.message).
		WithLastTransitionTime(since), changed
}

// applyStatus writes the status' fields to c, and no others: the agent's stay as they are. It never makes an object
// anew, nor touches another one of the same name.
func applyStatus(ctx context.Context, w client.Client, c *v1alpha1.NodeContainer, owner client.FieldOwner, status *apply.NodeContainerStatusApplyConfiguration) error {
	err := w.Status().Apply(ctx, apply.NodeContainer(c.Name).WithUID(c.UID).WithStatus(status), owner, client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("apply status of %q: %w", c.Name, err)
	}
	return nil
}
