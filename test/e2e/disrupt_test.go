package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// patience is how much longer than usual a pod may take to start, whatever becomes of the agent: what it holds at most.
const patience = 2500 * time.Millisecond

// usualStart is the longest of some pods' starts on a node whose agent does well: the machine may be busy.
func usualStart(t *testing.T, node string) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 3 {
		_, took := startPod(t, node)
		all = append(all, took)
	}
	return slices.Max(all)
}

// startsAsUsual starts a pod, and fails the test where that takes too long.
func startsAsUsual(t *testing.T, node string, usual time.Duration, when string) {
	t.Helper()
	_, took := startPod(t, node)
	compare(t, []time.Duration{took}, usual, when)
}

// compare fails the test where pods have started too late, in the median: one of many may have met with a busy machine.
func compare(t *testing.T, starts []time.Duration, usual time.Duration, when string) {
	t.Helper()
	slices.Sort(starts)
	took := starts[len(starts)/2]
	t.Logf("%s: a pod runs after %v, the median of %d; usual are %v at most", when, took.Round(time.Millisecond),
		len(starts), usual.Round(time.Millisecond))
	if took > usual+patience {
		t.Errorf("%s: pods take %v to start, and usually %v", when, took, usual)
	}
}

// runningAgent is the agent of a node, once it is ready, other than one that was seen before.
func runningAgent(t *testing.T, node string, other *corev1.Pod) (agent *corev1.Pod) {
	t.Helper()
	eventually(t, 2*time.Minute, func(ctx context.Context) (err error) {
		if agent, err = agentOn(ctx, node); err != nil {
			return err
		}
		for _, c := range agent.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && (other == nil || incarnation(agent) != incarnation(other)) {
				return nil
			}
		}
		return fmt.Errorf("agent %s is not ready, or the one before it", agent.Name)
	})
	return agent
}

// incarnation differs between pods of an agent, and between the containers of one pod.
func incarnation(agent *corev1.Pod) string {
	return agent.Name + agent.Status.ContainerStatuses[0].ContainerID
}

// processesOf are the pids of an agent, as its node knows them: the supervisor's, and the worker's.
func processesOf(t *testing.T, agent *corev1.Pod) (supervisor, worker string) {
	t.Helper()
	id := idOf(agent.Status.ContainerStatuses[0].ContainerID)
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		var list v1alpha1.NodeContainerList
		if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldContainerID: id}); err != nil {
			return fmt.Errorf("list NodeContainers: %w", err)
		}
		if len(list.Items) != 1 || list.Items[0].Status.PID == 0 {
			return fmt.Errorf("the agent's own container %.12s is not told of", id)
		}
		supervisor = strconv.Itoa(int(list.Items[0].Status.PID))
		return nil
	})
	eventually(t, 10*time.Second, func(context.Context) error {
		if worker = workerOf(t, agent.Spec.NodeName, supervisor); worker == "" {
			return fmt.Errorf("the supervisor %s has no worker", supervisor)
		}
		return nil
	})
	return supervisor, worker
}

// workerOf is the pid of the supervisor's only child; empty while it has none.
func workerOf(t *testing.T, node, supervisor string) string {
	t.Helper()
	return strings.TrimSpace(onNode(t, node, "sh", "-c", `ps -o pid= --ppid "$0" || true`, supervisor))
}

// hasAnotherWorker says where the supervisor has not started another one.
func hasAnotherWorker(t *testing.T, node, supervisor, worker string) error {
	t.Helper()
	if now := workerOf(t, node, supervisor); now == worker || now == "" {
		return fmt.Errorf("the supervisor has not started another worker: %q", now)
	}
	return nil
}

func TestPodsStartWhileTheAgentIsStopped(t *testing.T) {
	needsOurNodes(t)
	node := someNodes(t, 1)[0]
	agent := runningAgent(t, node, nil)
	usual := usualStart(t, node)
	supervisor, worker := processesOf(t, agent)
	onNode(t, node, "kill", "-STOP", supervisor, worker)

	startsAsUsual(t, node, usual, "the agent is stopped")
	runningAgent(t, node, agent) // its probes failed, and the kubelet has started another one
	startsAsUsual(t, node, usual, "another agent runs")
	agree(t)
}

func TestPodsStartWhenTheWorkerIsStopped(t *testing.T) {
	needsOurNodes(t)
	node := someNodes(t, 1)[0]
	agent := runningAgent(t, node, nil)
	usual := usualStart(t, node)
	supervisor, worker := processesOf(t, agent)
	onNode(t, node, "kill", "-STOP", worker)

	startsAsUsual(t, node, usual, "the worker is stopped")
	eventually(t, 20*time.Second, func(context.Context) error { return hasAnotherWorker(t, node, supervisor, worker) })
	if now := runningAgent(t, node, nil); incarnation(now) != incarnation(agent) {
		t.Error("the whole agent was started again, where its worker would have done")
	}
	agree(t)
}

// scrape asks an agent for its metrics, and does not mind whether it answers.
func scrape(ctx context.Context, agent *corev1.Pod) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+agent.Status.PodIP+":8080/metrics", nil)
	if err != nil {
		return
	}
	if answer, err := http.DefaultClient.Do(request); err == nil {
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}

func TestPodsStartWhenTheAgentIsOutOfMemory(t *testing.T) {
	needsOurNodes(t)
	node := someNodes(t, 1)[0]
	agent := runningAgent(t, node, nil)
	usual := usualStart(t, node)
	supervisor, worker := processesOf(t, agent)
	// A cgroup that is too small for it, in the hierarchy of version 1 or of version 2.
	const group = `cd /sys/fs/cgroup; [ ! -d memory ] || cd memory; `
	onNode(t, node, "sh", "-c", group+`mkdir e2e-small; cd e2e-small
		for limit in memory.max memory.limit_in_bytes; do [ ! -e $limit ] || echo 1M >$limit; done; echo $0 >cgroup.procs`, worker)
	t.Cleanup(func() { onNodeAtEnd(t, node, "sh", "-c", group+"rmdir e2e-small") })

	startsAsUsual(t, node, usual, "the worker has 1 MiB of memory")
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		scrape(ctx, agent) // which takes memory
		return hasAnotherWorker(t, node, supervisor, worker)
	})
	agree(t)
}
