package e2e

import (
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodsStartWhileTheAgentIsEvicted(t *testing.T) {
	node := alone(t, 0)
	agent := runningAgent(t, node, nil)
	release := judged(t)
	usual := usualStart(t, node)
	before, _ := startPod(t, node)
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: agent.Name, Namespace: agent.Namespace}}
	if err := api.SubResource("eviction").Create(t.Context(), agent, eviction); err != nil {
		t.Fatal(err)
	}

	startsAsUsual(t, node, usual, "the agent is evicted")
	release()
	// It ends while no agent, or one that has just begun, looks.
	if err := api.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	runningAgent(t, node, agent)
	agree(t, node)
}
