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

// look is one look at a node: after so long, with the agent's heartbeat, and whether the Node is there.
type look struct {
	after     time.Duration
	heartbeat int // 0 where there is no agent
	isThere   bool
}

func seen(looks ...look) sight {
	var s sight
	for _, l := range looks {
		heartbeat := time.Time{}
		if l.heartbeat != 0 {
			heartbeat = began.Add(time.Duration(l.heartbeat)*time.Hour - 24*time.Hour) // by a clock that is wrong
		}
		s = s.next(heartbeat, l.isThere, began.Add(l.after))
	}
	return s
}

func TestANodeIsGoneWhileItIsAbsentAndItsAgentSilent(t *testing.T) {
	const m = time.Minute
	for _, test := range []struct {
		name string
		s    sight
		want time.Duration // after ten minutes
	}{
		{"it is there", seen(look{0, 1, true}), 0},
		{"it was never seen", seen(look{0, 1, false}), 10 * m},
		{"it went", seen(look{0, 1, true}, look{2 * m, 1, false}, look{3 * m, 1, false}), 8 * m},
		{"it went and came back", seen(look{0, 1, true}, look{2 * m, 1, false}, look{3 * m, 1, true}), 0},
		{"it went twice", seen(look{2 * m, 1, false}, look{3 * m, 1, true}, look{4 * m, 1, false}), 6 * m},
		{"it went, and its agent goes on", seen(look{0, 1, true}, look{2 * m, 1, false}, look{5 * m, 2, false}), 5 * m},
		{"it has no agent", seen(look{0, 0, true}, look{2 * m, 0, false}, look{3 * m, 0, false}), 8 * m},
		{"its agent went too", seen(look{0, 1, false}, look{4 * m, 0, false}), 6 * m},
	} {
		if got := test.s.goneFor(began.Add(10 * m)); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestAnAgentIsHeardOfWhenItsHeartbeatChanges(t *testing.T) {
	const m = time.Minute
	for _, test := range []struct {
		name string
		s    sight
		want time.Duration
	}{
		{"seen once: the controller has just begun", seen(look{1 * m, 1, true}), 1 * m},
		{"seen again as it was", seen(look{1 * m, 1, true}, look{3 * m, 1, true}), 1 * m},
		{"changed", seen(look{1 * m, 1, true}, look{3 * m, 2, true}), 3 * m},
		{"changed, with a clock that was set back", seen(look{1 * m, 2, true}, look{3 * m, 1, true}), 3 * m},
	} {
		if got := test.s.heard.Sub(began); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
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
		known := map[string]sight{
			"no-agent": {heard: now.Add(-time.Hour)}, "no-node": {heartbeat: began, heard: now.Add(-time.Hour), absent: now.Add(-time.Hour)},
		}
		for i := range test.agents {
			heard := now.Add(-time.Minute)
			if i < test.silent {
				heard = now.Add(-3 * time.Minute) // not lost yet, and it will be
			}
			known[fmt.Sprint(i)] = sight{heartbeat: began, heard: heard}
		}
		if got := isMassOutage(known, now, 5*time.Minute, 30); got != test.want {
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
