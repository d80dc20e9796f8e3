package controller

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestOutlivedByNode(t *testing.T) {
	node := func(boot string, reported time.Time) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{BootID: boot},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(reported)}},
		}}
	}
	later := began.Add(time.Minute)
	for _, test := range []struct {
		name string
		c    *v1alpha1.NodeContainer
		node *corev1.Node
		want bool
	}{
		{"the node booted since", container(), node("boot-2", later), true},
		{"it is the same boot", container(), node("boot-1", later), false},
		{"it is the first of a boot that the Node does not know yet", container(), node("boot-0", began.Add(-time.Minute)), false},
		{"it stopped before", container(stoppedAt(later)), node("boot-2", later), false},
		{"the Node has no boot ID", container(), node("", later), false},
		{"the kubelet never reported", container(), &corev1.Node{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot-2"}}}, false},
		{"there is no Node", container(), &corev1.Node{}, false},
	} {
		if got := outlivedByNode(test.c, test.node); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestANodeIsGoneWhenItIsAbsentTwiceAndSilent(t *testing.T) {
	const after = 90 * time.Second
	first := absence{since: began, heartbeat: began.Add(-time.Minute)}
	for _, test := range []struct {
		name           string
		now, heartbeat time.Time
		want           bool
	}{
		{"after the time, and nothing heard", began.Add(after), first.heartbeat, true},
		{"before the time", began.Add(after - time.Second), first.heartbeat, false},
		{"its agent lives", began.Add(after), began.Add(time.Second), false},
		{"its agent lives, with a clock that is behind", began.Add(after), began.Add(-time.Hour), false},
	} {
		if got := first.isGone(test.now, test.heartbeat, after); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPulse(t *testing.T) {
	const lostAfter = 5 * time.Minute
	written := began.Add(-24 * time.Hour) // by a clock that is behind
	first := pulse{}.heardOf(written, began)
	second := first.heardOf(written.Add(time.Minute), began.Add(time.Minute))
	for _, test := range []struct {
		name string
		p    pulse
		now  time.Time
		want agentState
	}{
		{"seen once: the controller has just begun", first, began.Add(time.Minute), agentUnheard},
		{"never changed", first.heardOf(written, began.Add(lostAfter)), began.Add(lostAfter), agentLost},
		{"changed", second, began.Add(2 * time.Minute), agentAlive},
		{"changed, just in time", second, began.Add(6*time.Minute - 1), agentAlive},
		{"changed, too long ago", second, began.Add(6 * time.Minute), agentLost},
		{"came back", second.heardOf(written.Add(time.Hour), began.Add(time.Hour)), began.Add(time.Hour), agentAlive},
	} {
		if got := test.p.state(test.now, lostAfter); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

func TestIsMassOutage(t *testing.T) {
	now := began.Add(time.Hour)
	for _, test := range []struct {
		silent, agents int
		want           bool
	}{
		{3, 10, false}, {4, 10, true}, {31, 100, true}, {30, 100, false}, {0, 10, false}, {0, 0, false},
		{1, 1, false}, {1, 2, false}, {2, 2, true}, // one agent is no mass
	} {
		pulses := make(map[string]pulse)
		for i := range test.agents {
			heard := now.Add(-time.Minute)
			if i < test.silent {
				heard = now.Add(-3 * time.Minute) // not lost yet, and it will be
			}
			pulses[fmt.Sprint(i)] = pulse{heard: heard, beats: true}
		}
		if got := isMassOutage(pulses, now, 5*time.Minute, 30); got != test.want {
			t.Errorf("%d of %d silent: got %v, want %v", test.silent, test.agents, got, test.want)
		}
	}
}

func TestBreakerOpensAtTheCapAndClosesATenthBelow(t *testing.T) {
	for _, test := range []struct {
		open    bool
		objects int
		want    bool
	}{
		{false, 99, false}, {false, 100, true}, {false, 0, false},
		{true, 100, true}, {true, 90, true}, {true, 89, false}, {true, 0, false},
	} {
		if got := breakerOpens(test.open, test.objects, 100); got != test.want {
			t.Errorf("open %v with %d of 100: got %v, want %v", test.open, test.objects, got, test.want)
		}
	}
}
