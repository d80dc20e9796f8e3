package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/drift"
)

// pendingFor is how long a pod's status may lag behind its containers, or a pod behind its name: a mirror pod is made
// after the containers of its static pod.
const pendingFor = time.Minute

// finding is what a policy says of a container: a condition without its type and time.
type finding struct {
	status          metav1.ConditionStatus
	reason, message string
}

var matched = finding{status: metav1.ConditionTrue, reason: v1alpha1.ReasonMatched}

// match says whether one of pods accounts for c, and which one c belongs to: nil where there is none. pods are all that
// have c's ID in their status, or the UID or the name that c claims.
func match(c *v1alpha1.NodeContainer, pods []corev1.Pod, now time.Time) (finding, *corev1.Pod) {
	claims := c.Spec.Pod != v1alpha1.ContainerPod{}
	var holder, claimed *corev1.Pod // the first of each
	for i := range pods {
		p := &pods[i]
		if holder == nil && p.Spec.NodeName == c.Spec.NodeName && slices.Contains(cache.ContainerIDs(p), c.Spec.ContainerID) {
			holder = p
		}
		if claimed == nil && isClaimed(p, c.Spec.Pod) {
			claimed = p
		}
	}
	before := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionPodMatched)
	young := now.Sub(bornAt(c)) < pendingFor && (before == nil || before.Reason == v1alpha1.ReasonPending)

	switch {
	case holder != nil && (!claims || claimed != nil && holder.UID == claimed.UID):
		return matched, holder
	case !claims:
		return finding{metav1.ConditionFalse, v1alpha1.ReasonNotKubernetes, ""}, nil
	case claimed == nil && young:
		return finding{metav1.ConditionUnknown, v1alpha1.ReasonPending, "there is no such pod yet"}, nil
	case claimed == nil && len(pods) > 0:
		return finding{metav1.ConditionFalse, v1alpha1.ReasonPodGone, "another pod has its name or its container ID"}, nil
	case claimed == nil:
		return finding{metav1.ConditionFalse, v1alpha1.ReasonPodGone, ""}, nil
	case claimed.Spec.NodeName != c.Spec.NodeName:
		return finding{metav1.ConditionFalse, v1alpha1.ReasonNotInPodStatus, fmt.Sprintf("the pod is on node %q", claimed.Spec.NodeName)}, nil
	case c.Spec.Type == v1alpha1.TypeSandbox: // no status has sandboxes
		return matched, claimed
	case c.Status.State == v1alpha1.StateStopped && (before != nil && before.Status == metav1.ConditionTrue || restarted(c, claimed)):
		return matched, claimed // a status names the last two instances only
	case young:
		return finding{metav1.ConditionUnknown, v1alpha1.ReasonPending, ""}, nil
	}
	return finding{metav1.ConditionFalse, v1alpha1.ReasonNotInPodStatus, ""}, nil
}

// isClaimed reports whether p is the pod of a claim: by its UID, or by its name where the claim has no UID.
func isClaimed(p *corev1.Pod, claim v1alpha1.ContainerPod) bool {
	if claim.UID == "" {
		return p.Namespace == claim.Namespace && p.Name == claim.Name
	}
	return string(p.UID) == claim.UID || p.Annotations[cache.ConfigHash] == claim.UID
}

// restarted reports whether the container that c claims to be an instance of had more instances than its pod's status
// can name.
func restarted(c *v1alpha1.NodeContainer, p *corev1.Pod) bool {
	return slices.ContainsFunc(drift.Statuses(p), func(s corev1.ContainerStatus) bool {
		return s.Name == c.Spec.Pod.Container && s.RestartCount >= 2
	})
}

// bornAt is when c was made. The agent's clock counts only where it is behind the API server's.
func bornAt(c *v1alpha1.NodeContainer) time.Time {
	if t := c.Status.CreateTime; t != nil && t.Time.Before(c.CreationTimestamp.Time) {
		return t.Time
	}
	return c.CreationTimestamp.Time
}
