package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var agentLabels = client.MatchingLabels{"app.kubernetes.io/name": "containerhook", "app.kubernetes.io/component": "agent"}

// poll asks until ok says nothing, and returns what it said last when ctx ends before.
func poll(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// eventually fails the test when ok still says something after a while.
func eventually(t *testing.T, within time.Duration, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var last error
	if poll(ctx, func() error {
		err := ok(ctx)
		if ctx.Err() == nil || last == nil { // what the end of ctx interrupted says less than what was said before
			last = err
		}
		return err
	}) != nil {
		t.Fatalf("not within %v: %v", within, last)
	}
}

// needsOurNodes skips a test that does something to a node, where nodes are not ours.
func needsOurNodes(t *testing.T) {
	t.Helper()
	if !local {
		t.Skip("this does something to a node: only on the nodes of make cluster")
	}
}

// cluster runs a command of test/cluster/cluster.sh.
func cluster(ctx context.Context, args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, "../cluster/cluster.sh", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second // what it started may have its output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run cluster.sh %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// kubectl runs it with KUBECONFIG.
func kubectl(ctx context.Context, args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("run kubectl %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// onNode runs a command on a node of ours.
func onNode(t *testing.T, node string, command ...string) string {
	t.Helper()
	out, err := cluster(t.Context(), append([]string{"exec", node}, command...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nodeNames are those of the nodes that can run pods, sorted.
func nodeNames(ctx context.Context) (names []string, err error) {
	var nodes corev1.NodeList
	if err := api.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		if !slices.ContainsFunc(n.Spec.Taints, func(taint corev1.Taint) bool {
			return taint.Key == "node-role.kubernetes.io/control-plane"
		}) {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// someNodes are the first n nodes that can run pods.
func someNodes(t *testing.T, n int) []string {
	t.Helper()
	names, err := nodeNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < n {
		t.Skipf("the cluster has %d nodes for pods, this needs %d", len(names), n)
	}
	return names[:n]
}

// agentOn is the agent's pod on a node that is not being deleted.
func agentOn(ctx context.Context, node string) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := api.List(ctx, &pods, agentLabels, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed {
			return &pod, nil
		}
	}
	return nil, fmt.Errorf("find the agent on %s: there is none", node)
}

// onNodeAtEnd is onNode for what a test takes back.
func onNodeAtEnd(t *testing.T, node string, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := cluster(ctx, append([]string{"exec", node}, command...)...); err != nil {
		t.Error(err)
	}
}
