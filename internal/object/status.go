package object

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
)

// initialUser is the inode number of the initial user namespace, on each kernel: PROC_USER_INIT_INO of
// include/linux/proc_ns.h.
const initialUser = 0xEFFFFFFD

// statusOf makes a status of an event, without conditions.
func statusOf(e *event.Event, host event.Namespaces) v1alpha1.NodeContainerStatus {
	ns := e.Init.Namespaces
	if ns.User == initialUser {
		ns.User = 0
	}
	return v1alpha1.NodeContainerStatus{
		State:    v1alpha1.ContainerState(e.State),
		PID:      e.Init.PID,
		CgroupID: int64(e.Init.CgroupID),
		Namespaces: v1alpha1.ContainerNamespaces{
			Cgroup: int64(ns.Cgroup), IPC: int64(ns.IPC), Mount: int64(ns.Mount), Network: int64(ns.Network),
			PID: int64(ns.PID), User: int64(ns.User), UTS: int64(ns.UTS),
		},
		HostNamespaces: sharedWith(host, ns),
		CreateTime:     micro(e.CreateTime),
		StartTime:      micro(e.StartTime),
		FinishTime:     micro(e.FinishTime),
		ExitCode:       e.ExitCode,
		Signal:         e.Signal,
		OOMKilled:      e.OOMKilled,
		Reason:         v1alpha1.StopReason(e.Reason),
	}
}

// sharedWith returns the namespaces in which host and ns are the same. Those that are not known are not the same.
func sharedWith(host, ns event.Namespaces) []v1alpha1.NamespaceType {
	var shared []v1alpha1.NamespaceType
	for _, pair := range []struct {
		name    v1alpha1.NamespaceType
		host, c uint32
	}{
		{v1alpha1.NamespaceCgroup, host.Cgroup, ns.Cgroup},
		{v1alpha1.NamespaceIPC, host.IPC, ns.IPC},
		{v1alpha1.NamespaceMount, host.Mount, ns.Mount},
		{v1alpha1.NamespaceNetwork, host.Network, ns.Network},
		{v1alpha1.NamespacePID, host.PID, ns.PID},
		{v1alpha1.NamespaceUTS, host.UTS, ns.UTS},
	} {
		if pair.host != 0 && pair.host == pair.c {
			shared = append(shared, pair.name)
		}
	}
	return shared
}

// micro returns t as the API stores it, so that an object equals itself read back. A zero time is nil.
func micro(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	stored := metav1.NewMicroTime(t.UTC().Truncate(time.Microsecond))
	return &stored
}

// rank orders the states: a container never goes back.
var rank = map[v1alpha1.ContainerState]int{
	v1alpha1.StateCreating: 1, v1alpha1.StateCreated: 2, v1alpha1.StateRunning: 3, v1alpha1.StateStopped: 4,
}

// merged returns next with the facts of old that next does not know: nothing is forgotten. Conditions are left out.
func merged(old, next v1alpha1.NodeContainerStatus) v1alpha1.NodeContainerStatus {
	next.PID = cmp.Or(next.PID, old.PID)
	next.CgroupID = cmp.Or(next.CgroupID, old.CgroupID)
	if next.Namespaces == (v1alpha1.ContainerNamespaces{}) {
		next.Namespaces, next.HostNamespaces = old.Namespaces, old.HostNamespaces
	}
	next.CreateTime = cmp.Or(next.CreateTime, old.CreateTime)
	next.StartTime = cmp.Or(next.StartTime, old.StartTime)
	next.FinishTime = cmp.Or(next.FinishTime, old.FinishTime)
	next.OOMKilled = next.OOMKilled || old.OOMKilled
	if next.ExitCode == nil && old.ExitCode != nil { // one saw the end, the other only found it
		next.FinishTime, next.ExitCode, next.Signal, next.Reason = old.FinishTime, old.ExitCode, old.Signal, old.Reason
	}
	return next
}

// withConditions returns conditions with the two that the agent writes: the second only where facts are missing, or were
// said to be. problem is why, or empty.
func withConditions(conditions []metav1.Condition, source event.Source, problem string, truncated bool, now time.Time) []metav1.Condition {
	conditions = append([]metav1.Condition(nil), conditions...) // SetStatusCondition writes into the list
	observed := metav1.Condition{
		Type: v1alpha1.ConditionObserved, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHook,
	}
	if source == event.FromListing {
		observed.Reason = v1alpha1.ReasonListing
	}
	missing := metav1.Condition{
		Type: v1alpha1.ConditionFactsMissing, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonComplete,
	}
	switch {
	case problem != "":
		missing.Status, missing.Reason = metav1.ConditionTrue, v1alpha1.ReasonIncomplete
		missing.Message = Clean(problem, MaxText)
	case truncated:
		missing.Status, missing.Reason = metav1.ConditionTrue, v1alpha1.ReasonTruncated
	}
	said := []metav1.Condition{observed}
	if missing.Status == metav1.ConditionTrue || meta.FindStatusCondition(conditions, missing.Type) != nil {
		said = append(said, missing)
	}
	for _, condition := range said {
		condition.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		meta.SetStatusCondition(&conditions, condition)
	}
	return conditions
}
