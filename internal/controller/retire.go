package controller

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// zombieAfter is how much later than its pod a container ends that had outlived it. One that ended with its pod is no
// more than a word that came late.
const zombieAfter = 30 * time.Second

// Why an object was deleted: the label reason of containerhook_gc_deleted_total.
const (
	deletedTTL          = "ttl"           // it had a pod
	deletedUnmatchedTTL = "unmatched_ttl" // it had none
	deletedPodGone      = "pod_gone"      // it ended with its pod
	deletedTooMany      = "too_many"      // of one name
	deletedNodeGone     = "node_gone"
)

// retire says when the object of c goes, and why: the zero time while c runs. pod is what match says of c now.
func retire(c *v1alpha1.NodeContainer, pod finding, o *Options, now time.Time) (time.Time, string) {
	if c.Status.State != v1alpha1.StateStopped {
		return time.Time{}, ""
	}
	ended := endedAt(c)
	endedWithPod := pod.reason == v1alpha1.ReasonPodGone && hadPod(c) && ended.Before(goneAt(c, now).Add(zombieAfter))
	switch {
	case endedWithPod && c.Spec.Pod.Name != "": // whether it is really gone can be asked by name only
		return now, deletedPodGone
	case endedWithPod || pod.status == metav1.ConditionTrue:
		return ended.Add(o.StoppedTTL), deletedTTL
	}
	return ended.Add(o.UnmatchedStoppedTTL), deletedUnmatchedTTL
}

// hadPod reports whether a pod accounted for c at any time: SpecMatched is judged of those only.
func hadPod(c *v1alpha1.NodeContainer) bool {
	return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionPodMatched) ||
		meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionSpecMatched) != nil
}

// goneAt is when c's pod was found to be gone.
func goneAt(c *v1alpha1.NodeContainer, now time.Time) time.Time {
	before := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionPodMatched)
	if before == nil || before.Reason != v1alpha1.ReasonPodGone {
		return now
	}
	return before.LastTransitionTime.Time
}

// endedAt is when c ended, or was first reported if that was later. Of one whose end nobody saw it is the last time
// that something was found out about it.
func endedAt(c *v1alpha1.NodeContainer) time.Time {
	ended := c.CreationTimestamp.Time
	if t := c.Status.FinishTime; t != nil {
		return latest(ended, t.Time)
	}
	for _, condition := range c.Status.Conditions {
		ended = latest(ended, condition.LastTransitionTime.Time)
	}
	return ended
}

// excess returns those of stopped, all of one node and name, that are one too many: the ones that ended first. That is by
// their node's clock, for they may all have been reported later and at once.
func excess(stopped []v1alpha1.NodeContainer, keep int) []v1alpha1.NodeContainer {
	if len(stopped) <= keep {
		return nil
	}
	stopped = slices.Clone(stopped)
	slices.SortFunc(stopped, func(a, b v1alpha1.NodeContainer) int {
		if n := finishedAt(&a).Compare(finishedAt(&b)); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return stopped[:len(stopped)-keep]
}

// finishedAt is when c ended; of one whose end nobody saw, endedAt.
func finishedAt(c *v1alpha1.NodeContainer) time.Time {
	if t := c.Status.FinishTime; t != nil {
		return t.Time
	}
	return endedAt(c)
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
