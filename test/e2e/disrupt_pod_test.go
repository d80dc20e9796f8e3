package e2e

import (
	"context"
	"os/exec"
	"strconv"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodsStartWhileTheAgentIsEvicted(t *testing.T) {
	node := someNodes(t, 1)[0]
	agent := runningAgent(t, node, nil)
	usual := usualStart(t, node)
	before, _ := startPod(t, node)
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: agent.Name, Namespace: agent.Namespace}}
	if err := api.SubResource("eviction").Create(t.Context(), agent, eviction); err != nil {
		t.Fatal(err)
	}

	startsAsUsual(t, node, usual, "the agent is evicted")
	// It ends while no agent, or one that has just begun, looks.
	if err := api.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	runningAgent(t, node, agent)
	agree(t)
}

func TestPodsStartWhileAgentsAreUpgraded(t *testing.T) {
	needsOurNodes(t)
	nodes := someNodes(t, 2)
	usual := usualStart(t, nodes[0])
	before := runningAgent(t, nodes[1], nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	upgraded := make(chan error, 1)
	upgrade := exec.CommandContext(ctx, "../../bin/chart/helm4", "upgrade", "containerhook", "../../charts/containerhook",
		"--namespace", system, "--reuse-values", "--wait", "--timeout", "4m",
		"--set-string", "agent.podAnnotations.rolled="+strconv.FormatInt(time.Now().UnixNano(), 10))
	go func() {
		out, err := upgrade.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		upgraded <- err
	}()
	var starts []time.Duration
	for i := 0; ; i++ {
		_, took := startPod(t, nodes[i%2])
		starts = append(starts, took)
		select {
		case err := <-upgraded:
			if err != nil {
				t.FailNow()
			}
			compare(t, starts, usual, "agents are upgraded")
			runningAgent(t, nodes[1], before)
			agree(t)
			return
		default:
		}
	}
}
