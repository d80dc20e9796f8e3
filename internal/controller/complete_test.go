package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestUnreportedAreThoseThatRunWithoutAnObject(t *testing.T) {
	runs := func(name, id string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, ContainerID: id}
	}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://ended"}}
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Status: corev1.PodStatus{
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", ContainerID: "containerd://ended", State: ended}},
		ContainerStatuses: []corev1.ContainerStatus{runs("main", "containerd://reported"), runs("side", "containerd://missing"),
			{Name: "waits", ContainerID: "containerd://ended", LastTerminationState: ended}, runs("pulls", "")},
		EphemeralContainerStatuses: []corev1.ContainerStatus{runs("debug", "cri-o://other")},
	}}
	reported := v1alpha1.NodeContainer{Spec: v1alpha1.NodeContainerSpec{ContainerID: "reported"}}
	got := unreported([]corev1.Pod{pod}, []v1alpha1.NodeContainer{reported})
	want := map[string]string{"missing": "shop/web/side", "other": "shop/web/debug"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAContainerIsOverdueAfterItsGrace(t *testing.T) {
	const grace = 30 * time.Second
	since, at := map[string]time.Time{}, time.Unix(1000, 0)
	for _, step := range []struct {
		after   time.Duration
		missing map[string]string
		names   []string
		next    time.Duration
	}{
		{0, map[string]string{"a": "a"}, nil, grace},
		{10 * time.Second, map[string]string{"a": "a", "b": "b"}, nil, 20 * time.Second},
		{20 * time.Second, map[string]string{"a": "a", "b": "b"}, []string{"a"}, 10 * time.Second},
		{10 * time.Second, map[string]string{"b": "b"}, []string{"b"}, 0},
		{0, map[string]string{"a": "a"}, nil, grace}, // it was reported meanwhile, and is not any more
	} {
		at = at.Add(step.after)
		names, next := overdue(step.missing, since, grace, at)
		if diff := cmp.Diff(step.names, names); diff != "" || next != step.next {
			t.Errorf("%v, %v: -want +got:\n%s", step, next, diff)
		}
	}
}

func TestCompletenessNamesTheFirst(t *testing.T) {
	var names []string
	for i := range 7 {
		names = append(names, fmt.Sprint("c", i))
	}
	if got := completeness(names).message; got != "no NodeContainer of c0, c1, c2, c3, c4 and 2 more" {
		t.Error(got)
	}
	if got := completeness(nil); got.status != metav1.ConditionTrue || got.message != "" {
		t.Errorf("%+v", got)
	}
}
