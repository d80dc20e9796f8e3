package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// beganAnew is an agent that lost its checkpoint an hour after the containers of the tests were made, and has told since
// of all that it found.
func beganAnew(changes ...func(*v1alpha1.NodeContainerAgentStatus)) *v1alpha1.NodeContainerAgent {
	at := func(d time.Duration) *metav1.Time { t := metav1.NewTime(began.Add(d)); return &t }
	a := &v1alpha1.NodeContainerAgent{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.NodeContainerAgentStatus{
		BootID: "boot-1", ObservedSince: at(time.Hour), LastListTime: at(time.Hour + time.Second), HeartbeatTime: at(time.Hour + 2*time.Minute),
	}}
	for _, change := range changes {
		change(&a.Status)
	}
	return a
}

func TestIsForgotten(t *testing.T) {
	after := func(d time.Duration) time.Time { return began.Add(time.Hour).Add(d) }
	told := func(status metav1.ConditionStatus, at time.Time) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) {
			c.Status.Conditions = nil
			withCondition(v1alpha1.ConditionObserved, status, v1alpha1.ReasonListing, at)(c)
		}
	}
	type status = v1alpha1.NodeContainerAgentStatus
	one, many := int32(1), int64(1)
	for _, test := range []struct {
		name  string
		c     *v1alpha1.NodeContainer
		agent *v1alpha1.NodeContainerAgent
		want  bool
	}{
		{"it was not told since", container(), beganAnew(), true},
		{"its agent was lost meanwhile", container(told(metav1.ConditionUnknown, after(-time.Minute))), beganAnew(), true},
		{"its first status was never written", container(func(c *v1alpha1.NodeContainer) { c.Status.Conditions = nil }), beganAnew(), true},

		{"it was told since", container(told(metav1.ConditionTrue, after(time.Second))), beganAnew(), false},
		{"it was told in that second", container(told(metav1.ConditionTrue, after(0))), beganAnew(), false},
		{"it was made since", container(func(c *v1alpha1.NodeContainer) { c.CreationTimestamp = metav1.NewTime(after(time.Second)) }), beganAnew(), false},
		{"it was made since, and the agent's clock is fast", container(func(c *v1alpha1.NodeContainer) {
			c.CreationTimestamp, c.Status.Conditions = metav1.NewTime(after(3*time.Minute-time.Second)), nil
		}), beganAnew(func(s *status) {
			for _, t := range []*metav1.Time{s.ObservedSince, s.LastListTime, s.HeartbeatTime} {
				*t = metav1.NewTime(t.Add(24 * time.Hour))
			}
		}), false},
		{"that has been said", container(func(c *v1alpha1.NodeContainer) {
			c.Status.Conditions = nil
			withCondition(v1alpha1.ConditionObserved, metav1.ConditionFalse, v1alpha1.ReasonUnobserved, began)(c)
		}), beganAnew(), false},
		{"it stopped", container(stoppedAt(after(-time.Minute))), beganAnew(), false},
		{"it is of another boot", container(), beganAnew(func(s *status) { s.BootID = "boot-2" }), false},
		{"the agents have their checkpoint", container(), beganAnew(func(s *status) { *s.ObservedSince = metav1.NewTime(began.Add(-time.Hour)) }), false},
		{"the agent says nothing of it", container(), beganAnew(func(s *status) { s.ObservedSince = nil }), false},
		{"the agent has not listed yet", container(), beganAnew(func(s *status) { s.LastListTime = nil }), false},
		{"the agent before has listed", container(), beganAnew(func(s *status) { *s.LastListTime = metav1.NewTime(after(-time.Minute)) }), false},
		{"the agent may still be telling", container(), beganAnew(func(s *status) { *s.HeartbeatTime = metav1.NewTime(after(time.Second)) }), false},
		{"the agent may not create", container(), beganAnew(func(s *status) { s.SuppressedContainers = &one }), false},
		{"the agent has too many", container(), beganAnew(func(s *status) { s.DroppedContainers = &many }), false},
	} {
		if got := isForgotten(test.c, test.agent, after(3*time.Minute)); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// A node's agent was lost, and comes back without its checkpoint: of three containers it finds one. One of the others has
// no pod: its runtime may keep its state where agents do not look.
func TestWhatAnAgentForgotEndsAndIsNotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		<-time.After(time.Until(began.Add(time.Hour + 2*time.Minute)))
		lost := func(name, id string) *v1alpha1.NodeContainer {
			return container(func(c *v1alpha1.NodeContainer) {
				c.Name, c.Spec.ContainerID, c.Status.Conditions = name, id, nil
				withCondition(v1alpha1.ConditionObserved, metav1.ConditionUnknown, v1alpha1.ReasonAgentLost, began.Add(10*time.Minute))(c)
			})
		}
		found := lost("found", "c1")
		found.Status.Conditions = nil
		withCondition(v1alpha1.ConditionObserved, metav1.ConditionTrue, v1alpha1.ReasonListing, began.Add(time.Hour+time.Second))(found)
		elsewhere := lost("elsewhere", "c3")
		elsewhere.Spec.Pod = v1alpha1.ContainerPod{}
		w.create(t, node("n1"), beganAnew(), web(), found, lost("gone", "c2"), elsewhere)
		w.reconcile(t)
		for name, want := range map[string]string{
			"found": "Running  Listing", "gone": "Stopped ExitUnknown Unobserved", "elsewhere": "Running  Unobserved",
		} {
			var c v1alpha1.NodeContainer
			if err := w.api.Get(t.Context(), requestOf(name).NamespacedName, &c); err != nil {
				t.Fatal(err)
			}
			observed := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionObserved)
			if got := fmt.Sprint(c.Status.State, " ", c.Status.Reason, " ", observed.Reason); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	})
}
