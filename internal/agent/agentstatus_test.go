package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/event"
)

// TestHookedIsTrueOnlyWhereAllRuntimesAreHeld has a row for each way in which the hook sees less.
func TestHookedIsTrueOnlyWhereAllRuntimesAreHeld(t *testing.T) {
	held := []string{"/usr/bin/runc"}
	for name, c := range map[string]struct {
		hook            event.Status
		status          metav1.ConditionStatus
		reason, message string
	}{
		"all are held": {event.Status{Runtimes: held}, metav1.ConditionTrue, v1alpha1.ReasonHeld, ""},
		"none is found": {event.Status{}, metav1.ConditionFalse, v1alpha1.ReasonNoRuntime,
			"no runtime was found in the usual places, nor by --runtime-path"},
		"one is refused": {event.Status{Runtimes: held, Unheld: []string{"/usr/bin/crun: mark it: permission denied"}}, metav1.ConditionFalse,
			v1alpha1.ReasonDegraded, "not held: /usr/bin/crun: mark it: permission denied"},
		"nothing can be held": {event.Status{Degraded: errors.New("no BTF")}, metav1.ConditionFalse, v1alpha1.ReasonDegraded, "no BTF"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &WriterOptions{Status: func() event.Status { return c.hook }}
			status := agentStatus(o, desired.Counts{}, false, nil, time.Now())
			got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionHooked)
			want := &metav1.Condition{Type: v1alpha1.ConditionHooked, Status: c.status, Reason: c.reason, Message: c.message,
				LastTransitionTime: got.LastTransitionTime}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
