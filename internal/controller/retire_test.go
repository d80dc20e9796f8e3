package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

var (
	isMatched = matched
	isGone    = finding{metav1.ConditionFalse, v1alpha1.ReasonPodGone, ""}
	isForeign = finding{metav1.ConditionFalse, v1alpha1.ReasonNotKubernetes, ""}
	isPending = finding{metav1.ConditionUnknown, v1alpha1.ReasonPending, ""}
)

func TestRetire(t *testing.T) {
	o := DefaultOptions()
	end := began.Add(time.Minute)
	now := began.Add(time.Hour)
	gone := func(since time.Time) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) {
			withCondition(v1alpha1.ConditionPodMatched, metav1.ConditionFalse, v1alpha1.ReasonPodGone, since)(c)
			withCondition(v1alpha1.ConditionSpecMatched, metav1.ConditionTrue, v1alpha1.ReasonAsRequested, began)(c)
		}
	}
	for _, test := range []struct {
		name   string
		c      *v1alpha1.NodeContainer
		pod    finding
		due    time.Time
		reason string
	}{
		{"it stopped and has a pod", container(stoppedAt(end)), isMatched, end.Add(5 * time.Minute), deletedTTL},
		{"it stopped and has none", container(stoppedAt(end)), isForeign, end.Add(time.Hour), deletedUnmatchedTTL},
		{"it stopped before its pod knew", container(stoppedAt(end)), isPending, end.Add(time.Hour), deletedUnmatchedTTL},
		{"it claims a pod that never was", container(stoppedAt(end)), isGone, end.Add(time.Hour), deletedUnmatchedTTL},

		{"it ended, then its pod went", container(stoppedAt(end), wasMatched), isGone, now, deletedPodGone},
		{"its pod went, and that it ended was told late", container(stoppedAt(end), gone(end.Add(-time.Second))), isGone, now, deletedPodGone},
		{"it outlived its pod: a zombie", container(stoppedAt(end), gone(end.Add(-zombieAfter))), isGone, end.Add(time.Hour), deletedUnmatchedTTL},
		{"nobody can ask for its pod by name", container(stoppedAt(end), wasMatched, claims(v1alpha1.ContainerPod{UID: webUID})), isGone, end.Add(5 * time.Minute), deletedTTL},

		{"it runs", container(), isMatched, time.Time{}, ""},
		{"it runs without a pod", container(), isForeign, time.Time{}, ""},
		{"it runs and its pod is gone: a zombie", container(wasMatched), isGone, time.Time{}, ""},
		{"nobody knows its state", container(func(c *v1alpha1.NodeContainer) { c.Status.State = "" }), isGone, time.Time{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if due, reason := retire(test.c, test.pod, &o, now); !due.Equal(test.due) || reason != test.reason {
				t.Errorf("got %v %q, want %v %q", due, reason, test.due, test.reason)
			}
		})
	}
}

func TestEndedAtIsNeverTooEarly(t *testing.T) {
	noticed := began.Add(7 * time.Minute)
	for _, test := range []struct {
		name string
		c    *v1alpha1.NodeContainer
		want time.Time
	}{
		{"the agent saw its end", container(stoppedAt(began.Add(time.Minute))), began.Add(time.Minute)},
		{"the agent's clock is behind", container(stoppedAt(began.Add(-time.Hour))), began},
		{"nobody saw its end", container(func(c *v1alpha1.NodeContainer) {
			c.Status.State = v1alpha1.StateStopped
			withCondition(v1alpha1.ConditionPodMatched, metav1.ConditionFalse, v1alpha1.ReasonPodGone, noticed)(c)
		}), noticed},
	} {
		if got := endedAt(test.c); !got.Equal(test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestExcessIsWhatEndedFirst(t *testing.T) {
	for name, reported := range map[string]time.Time{"each as it ended": began, "all at once, after an outage": began.Add(time.Hour)} {
		var stopped []v1alpha1.NodeContainer
		for i := range 12 {
			stopped = append(stopped, *container(stoppedAt(began.Add(time.Duration(i*7%12)*time.Minute)), func(c *v1alpha1.NodeContainer) {
				c.CreationTimestamp = metav1.NewTime(reported)
				c.Name = fmt.Sprintf("%02d-ended-%02d", i, i*7%12)
			}))
		}
		got := excess(stopped, 10)
		if len(got) != 2 || !strings.HasSuffix(got[0].Name, "ended-00") || !strings.HasSuffix(got[1].Name, "ended-01") {
			t.Errorf("%s: got %d, want those that ended first", name, len(got))
		}
		if got := excess(stopped[:10], 10); len(got) != 0 {
			t.Errorf("%s: of ten %d are one too many", name, len(got))
		}
	}
}

func TestNameOfIsWhatInstancesShare(t *testing.T) {
	other := func(change func(*v1alpha1.NodeContainer)) string { return cache.NameOf(container(change)) }
	name := cache.NameOf(container())
	if again := other(func(c *v1alpha1.NodeContainer) { c.Spec.ContainerID, c.Spec.Pod.UID = "c2", "a-replaced-pod" }); again != name {
		t.Errorf("another instance has the name %q, not %q", again, name)
	}
	podman := claims(v1alpha1.ContainerPod{})
	seen := map[string]bool{name: true}
	for _, different := range []string{
		other(func(c *v1alpha1.NodeContainer) { c.Spec.NodeName = "n2" }),
		other(func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Container = "side" }),
		other(func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Namespace = "other" }),
		other(podman),
		other(func(c *v1alpha1.NodeContainer) { podman(c); c.Spec.Name = "web" }),
		other(func(c *v1alpha1.NodeContainer) { podman(c); c.Spec.ContainerID = "c2" }),
	} {
		if seen[different] {
			t.Errorf("%q is the name of two containers", different)
		}
		seen[different] = true
	}
}
