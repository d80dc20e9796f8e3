package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// toldWithin is how long an agent that begins anew has to tell of all containers that it finds.
const toldWithin = time.Minute

// isForgotten reports whether c ended while its node had no agent, and the one that came then knows nothing of it: the
// checkpoint was lost. It has listed what there is, and told all of it.
func isForgotten(c *v1alpha1.NodeContainer, agent *v1alpha1.NodeContainerAgent, now time.Time) bool {
	s := &agent.Status
	if !isUnconfirmed(c, s.KnownSince) || s.LastListTime == nil || s.HeartbeatTime == nil {
		return false
	}
	hasToldAll := !s.LastListTime.Before(s.KnownSince) && s.HeartbeatTime.Sub(s.KnownSince.Time) >= toldWithin &&
		!isSome(s.Suppressed) && !isSome(s.Dropped)
	return hasToldAll && c.Spec.BootID == s.BootID && now.Sub(c.CreationTimestamp.Time) >= toldWithin
}

// isUnconfirmed reports whether c was told before its node's containers were known, and not since.
func isUnconfirmed(c *v1alpha1.NodeContainer, knownSince *metav1.Time) bool {
	observed := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionObserved)
	return knownSince != nil && c.Status.State != v1alpha1.StateStopped && c.CreationTimestamp.Before(knownSince) &&
		(observed == nil || observed.LastTransitionTime.Before(knownSince))
}

func isSome[T int32 | int64](count *T) bool { return count != nil && *count > 0 }

// endForgotten says of those of the agent's containers that are forgotten that they ended. It returns when to go on where
// there were too many for now.
func (r *nodes) endForgotten(ctx context.Context, agent *v1alpha1.NodeContainerAgent, now time.Time) (time.Duration, error) {
	ended, rest, err := r.each(ctx, agent.Name, func(c *v1alpha1.NodeContainer) bool { return isForgotten(c, agent, now) },
		func(c *v1alpha1.NodeContainer) error {
			return endUnseen(ctx, r.client, c, v1alpha1.ReasonForgotten, now)
		})
	if ended > 0 {
		log.FromContext(ctx).Info("Ended what the node's agents have forgotten", "node", agent.Name, "count", ended)
	}
	return rest, err
}
