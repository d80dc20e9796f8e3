package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// A pod looks at its clock with its first instruction, and ends. What is known of it can only have been read before: of a
// process that is gone nobody reads a PID, a cgroup or a namespace.
func TestFactsAreReadBeforeTheFirstInstruction(t *testing.T) {
	pods := make([]*corev1.Pod, 10)
	for i := range pods {
		pods[i] = create(t, podOf("clock", "", "adjtimex >/dev/termination-log"))
	}
	for _, pod := range pods {
		eventually(t, 2*time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodSucceeded) })
		ended := pod.Status.ContainerStatuses[0].State.Terminated
		clock := podClock(t, ended.Message)
		var o *v1alpha1.NodeContainer
		eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
			if o, err = objectOf(ctx, idOf(ended.ContainerID)); err == nil && o.Status.State != v1alpha1.StateStopped {
				err = fmt.Errorf("it is %s", o.Status.State)
			}
			return err
		})
		s := &o.Status
		observed := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionObserved)
		switch {
		case observed == nil || observed.Reason != v1alpha1.ReasonHook:
			t.Errorf("it was not held: %+v", observed)
		case s.PID == 0 || s.CgroupID == 0 || s.Namespaces.PID == 0 || s.Namespaces.Mount == 0 || s.Namespaces.Network == 0:
			t.Errorf("its process was not looked at: %+v", s)
		case meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionFactsMissing):
			t.Errorf("facts are missing: %+v", s.Conditions)
		case s.CreateTime == nil || s.StartTime == nil || s.FinishTime == nil:
			t.Errorf("times are missing: %+v", s)
		case s.StartTime.Time.After(clock) || s.CreateTime.Time.After(s.StartTime.Time) || clock.After(s.FinishTime.Time):
			t.Errorf("created %v, started %v, its own clock %v, finished %v", s.CreateTime, s.StartTime, clock, s.FinishTime)
		}
	}
	agree(t)
}

// podClock reads the time that adjtimex of busybox printed.
func podClock(t *testing.T, printed string) time.Time {
	t.Helper()
	found := regexp.MustCompile(`time\.tv_sec:\s+(\d+)\s+time\.tv_usec:\s+(\d+)`).FindStringSubmatch(printed)
	if found == nil {
		t.Fatalf("the pod's clock is not in %q", printed)
	}
	seconds, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	micros, err := strconv.ParseInt(found[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, micros*1000)
}
