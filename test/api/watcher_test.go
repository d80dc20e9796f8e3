package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// The example needs no more rights than viewers have.
func TestTheExampleLogsContainersThatNoPodAccountsFor(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	viewer, err := plane.PodClient(t.Context(), system, "watcher", "node-w")
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "watcher"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "containerhook-viewer"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "watcher"}},
	})
	watcher := startCommand(t, build(t, "../../examples/watcher"), viewer)
	for id, matched := range map[string]metav1.ConditionStatus{"of-a-pod": metav1.ConditionTrue, "not-known-yet": metav1.ConditionUnknown,
		"ended": metav1.ConditionFalse, "of-nobody": metav1.ConditionFalse} {
		object := newContainerOf(nil, id, "node-w", id)
		object.Status.Conditions = append(object.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionPodMatched,
			Status: matched, Reason: "Test", LastTransitionTime: metav1.Now()})
		if id == "ended" {
			object.Status.State = v1alpha1.StateStopped
		}
		tell(t, c, object)
	}
	says := func(id string) bool { return strings.Contains(watcher.said.String(), "containerID="+id) }
	eventually(t, time.Minute, func() error {
		if !says("of-nobody") {
			return fmt.Errorf("it says %q", watcher.said.String())
		}
		return nil
	})
	stays(t, 2*time.Second, func() error {
		if says("of-a-pod") || says("not-known-yet") || says("ended") {
			return fmt.Errorf("it says %q", watcher.said.String())
		}
		return nil
	})
}
