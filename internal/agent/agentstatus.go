package agent

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/object"
)

// maxRuntimes is the API's bound of status.runtimes.
const maxRuntimes = 64

// agentStatus is how the agent does, as its NodeContainerAgent has it. before are the conditions as they were written last.
func agentStatus(o *WriterOptions, c desired.Counts, suspended bool, before []metav1.Condition, now time.Time) v1alpha1.NodeContainerAgentStatus {
	h := o.Status()
	beat, live, suppressed := seconds(now), int32(c.Live), int32(0)
	failed, dropped := int64(c.Failed), int64(c.Dropped)
	if suspended {
		suppressed = int32(c.Missing)
	}
	var observedSince *metav1.Time
	if h.Unread == 0 {
		observedSince = seconds(o.ObservedSince)
	}
	status := v1alpha1.NodeContainerAgentStatus{
		Version: o.Version, BootID: o.BootID, ObservedSince: observedSince, HeartbeatTime: beat, LastListTime: seconds(h.Listed), Runtimes: texts(h.Runtimes),
		LiveContainers: &live, MissedContainers: &h.Missed, FailedCreates: &failed, DeadlineExceeded: &h.Late, DroppedContainers: &dropped, SuppressedContainers: &suppressed,
	}
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonListed}
	if h.NotReady != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonNotListed, object.Clean(h.NotReady.Error(), object.MaxText)
	}
	if len(h.Hanging) > 0 {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonFileSystemHangs
		ready.Message = object.Clean("no answer from: "+strings.Join(h.Hanging, ", "), object.MaxText)
	}
	hooked := metav1.Condition{Type: v1alpha1.ConditionHooked, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeld}
	switch {
	case h.Degraded != nil:
		hooked.Status, hooked.Reason, hooked.Message = metav1.ConditionFalse, v1alpha1.ReasonDegraded, object.Clean(h.Degraded.Error(), object.MaxText)
	case len(h.Unheld) > 0:
		hooked.Status, hooked.Reason = metav1.ConditionFalse, v1alpha1.ReasonDegraded
		hooked.Message = object.Clean("not held: "+strings.Join(h.Unheld, "; "), object.MaxText)
	case len(h.Runtimes) == 0:
		hooked.Status, hooked.Reason = metav1.ConditionFalse, v1alpha1.ReasonNoRuntime
		hooked.Message = "no runtime was found in the usual places, nor by --runtime-path"
	}
	status.Conditions = append([]metav1.Condition(nil), before...)
	for _, condition := range []metav1.Condition{ready, hooked} {
		condition.LastTransitionTime = *beat
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	return status
}

// seconds returns t as the API stores it; nil where it is zero.
func seconds(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	stored := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &stored
}

// texts bounds and cleans a list of paths for the API.
func texts(paths []string) []string {
	var all []string
	for _, p := range paths[:min(len(paths), maxRuntimes)] {
		all = append(all, object.Clean(p, object.MaxPath))
	}
	return all
}

// isNews says whether next is to be written after last: what it means has changed, or a minute is over.
func isNews(last, next *v1alpha1.NodeContainerAgentStatus) bool {
	return last.HeartbeatTime == nil || next.HeartbeatTime.Sub(last.HeartbeatTime.Time) >= beatEvery ||
		!equality.Semantic.DeepEqual(last.Conditions, next.Conditions) ||
		!equality.Semantic.DeepEqual(last.Runtimes, next.Runtimes) ||
		(ptr.Deref(last.DroppedContainers, 0) > 0) != (ptr.Deref(next.DroppedContainers, 0) > 0) ||
		(ptr.Deref(last.SuppressedContainers, 0) > 0) != (ptr.Deref(next.SuppressedContainers, 0) > 0)
}
