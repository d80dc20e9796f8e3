package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// initialSyncTimeout is how long an agent that begins anew has to report all containers that it finds.
const initialSyncTimeout = time.Minute

// isForgotten reports whether nobody follows c any more, and nobody has said so: the checkpoint of its node's agents was
// lost, and the agent that came then has listed what there is, and reported all of it.
func isForgotten(c *v1alpha1.NodeContainer, agent *v1alpha1.NodeContainerAgent, now time.Time) bool {
	s := &agent.Status
	if !isUnconfirmed(c, s.ObservedSince) || s.LastListTime == nil || s.HeartbeatTime == nil {
		return false
	}
	hasReportedAll := !s.LastListTime.Before(s.ObservedSince) && s.HeartbeatTime.Sub(s.ObservedSince.Time) >= initialSyncTimeout &&
		ptr.Deref(s.SuppressedContainers, 0) == 0 && ptr.Deref(s.DroppedContainers, 0) == 0
	return hasReportedAll && c.Spec.BootID == s.BootID && now.Sub(c.CreationTimestamp.Time) >= initialSyncTimeout
}

// isUnconfirmed reports whether c was reported before its node's containers were known, and nothing has been said of it since.
func isUnconfirmed(c *v1alpha1.NodeContainer, observedSince *metav1.Time) bool {
	observed := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionObserved)
	return observedSince != nil && c.Status.State != v1alpha1.StateStopped && c.CreationTimestamp.Before(observedSince) &&
		(observed == nil || observed.Reason != v1alpha1.ReasonUnobserved && observed.LastTransitionTime.Before(observedSince))
}

// endForgotten says of the agent's containers that are forgotten that nobody follows them, and of those of pods that they
// ended: agents look where the runtimes of pods keep their state, and another runtime's may be elsewhere. It returns when
// to go on where there were too many for now.
func (r *nodes) endForgotten(ctx context.Context, agent *v1alpha1.NodeContainerAgent, now time.Time) (time.Duration, error) {
	is := func(c *v1alpha1.NodeContainer) bool { return isForgotten(c, agent, now) }
	count, rest, err := r.each(ctx, agent.Name, is, func(c *v1alpha1.NodeContainer) error {
		if c.Spec.Pod != (v1alpha1.ContainerPod{}) {
			return endUnseen(ctx, r.client, c, v1alpha1.ReasonUnobserved, now)
		}
		return r.observe(ctx, c, isNotFollowed, now)
	})
	if count > 0 {
		log.FromContext(ctx).Info("The node's agents have forgotten containers", "node", agent.Name, "count", count)
	}
	return rest, err
}
