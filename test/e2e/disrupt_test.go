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

const (
	// patience is how much longer than usual a pod may take to start, whatever becomes of the agent: an exec is held for 2 s
	// at most.
	patience = 2500 * time.Millisecond
	// longestStart is how long a pod may take to start, however long that usually takes here.
	longestStart = 20 * time.Second
)

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

// compare fails the test where any of the pods has started too late.
func compare(t *testing.T, starts []time.Duration, usual time.Duration, when string) {
	t.Helper()
	t.Logf("%s: %d pods ran after %v at most; usual are %v", when, len(starts), slices.Max(starts).Round(time.Millisecond),
		usual.Round(time.Millisecond))
	if err := tooLate(starts, usual); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// tooLate says which pod took too long to start: more than twice as long as usual and what an agent may hold, or more than
// any may take.
func tooLate(starts []time.Duration, usual time.Duration) error {
	limit := min(2*usual+patience, longestStart)
	if longest := slices.Max(starts); longest > limit {
		return fmt.Errorf("a pod took %v to start, more than %v; usual are %v", longest, limit, usual)
	}
	return nil
}

func TestOnePodThatStartsLateAmongManyIsTooLate(t *testing.T) {
	starts := func(last time.Duration) []time.Duration {
		return append(slices.Repeat([]time.Duration{time.Second}, 11), last)
	}
	for _, c := range []struct {
		last, usual time.Duration
		late        bool
	}{
		{last: time.Second, usual: time.Second},
		{last: 2*time.Second + patience, usual: time.Second},
		{last: 3*time.Second + patience, usual: time.Second, late: true},
		{last: time.Minute, usual: time.Second, late: true},
		{last: time.Minute, usual: time.Hour, late: true},
	} {
		if err := tooLate(starts(c.last), c.usual); (err != nil) != c.late {
			t.Errorf("one of %v, where %v is usual: %v", c.last, c.usual, err)
		}
	}
}

// runningAgent is the agent of a node, once it is ready, other than one that was seen before.
func runningAgent(t *testing.T, node string, other *corev1.Pod) (agent *corev1.Pod) {
	t.Helper()
	eventually(t, 2*time.Minute, func(ctx context.Context) (err error) {
		if err := hasReadyAgent(ctx, node); err != nil {
			return err
		}
		if agent, err = agentOn(ctx, node); err == nil && other != nil && incarnation(agent) == incarnation(other) {
			err = fmt.Errorf("agent %s is the one before", agent.Name)
		}
		return err
	})
	return agent
}

// hasReadyAgent says where the agent of a node is not ready.
func hasReadyAgent(ctx context.Context, node string) error {
	_, err := readySince(ctx, node)
	return err
}

// readySince is when the agent of a node became ready. Conditions have whole seconds: a second is added.
func readySince(ctx context.Context, node string) (time.Time, error) {
	agent, err := agentOn(ctx, node)
	if err != nil {
		return time.Time{}, err
	}
	for _, c := range agent.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Second), nil
		}
	}
	return time.Time{}, fmt.Errorf("agent %s is not ready", agent.Name)
}

// incarnation differs between pods of an agent, and between the containers of one pod.
func incarnation(agent *corev1.Pod) string {
	return agent.Name + agent.Status.ContainerStatuses[0].ContainerID
}

// processes are the pids of an agent, as its node knows them.
type processes struct{ first, gate, worker string }

func processesOf(t *testing.T, agent *corev1.Pod) (p processes) {
	t.Helper()
	id := idOf(agent.Status.ContainerStatuses[0].ContainerID)
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		var list v1alpha1.NodeContainerList
		if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldContainerID: id}); err != nil {
			return fmt.Errorf("list NodeContainers: %w", err)
		}
		if len(list.Items) != 1 || list.Items[0].Status.PID == 0 {
			return fmt.Errorf("the agent's own container %.12s has no object with a pid", id)
		}
		p.first = strconv.Itoa(int(list.Items[0].Status.PID))
		return nil
	})
	eventually(t, 10*time.Second, func(context.Context) error {
		if p.gate = childOf(t, agent.Spec.NodeName, p.first); p.gate == "" {
			return fmt.Errorf("the first process %s has no gate", p.first)
		}
		if p.worker = childOf(t, agent.Spec.NodeName, p.gate); p.worker == "" {
			return fmt.Errorf("the gate %s has no worker", p.gate)
		}
		return nil
	})
	return p
}

// childOf is the pid of a process's only child; empty while it has none.
func childOf(t *testing.T, node, parent string) string {
	t.Helper()
	return strings.TrimSpace(onNode(t, node, "sh", "-c", `ps -o pid= --ppid "$0" || true`, parent))
}

// hasAnotherWorker says where the gate has not started another one.
func (p processes) hasAnotherWorker(t *testing.T, node string) error {
	t.Helper()
	if now := childOf(t, node, p.gate); now == p.worker || now == "" {
		return fmt.Errorf("the gate has not started another worker: %q", now)
	}
	return nil
}

// stopProcesses stops processes of a node, and fails the test unless an exec of the runtime is held by that for so long at
// least, and let go in time.
func stopProcesses(t *testing.T, node string, usual, least time.Duration, when string, pids ...string) {
	t.Helper()
	longest := execs(t, node)
	onNode(t, node, append([]string{"kill", "-STOP"}, pids...)...)
	startsAsUsual(t, node, usual, when)
	if held := longest(); held < least {
		t.Errorf("%s: no exec was held for longer than %v: nothing was tried", when, held)
	}
}

func TestPodsStartWhileTheAgentIsStopped(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 1)
	agent := runningAgent(t, node, nil)
	p := processesOf(t, agent)
	release := judged(t)
	usual := usualStart(t, node)
	stopProcesses(t, node, usual, time.Second, "the agent is stopped", p.gate, p.worker)
	release()

	runningAgent(t, node, agent) // its watchdog has killed it, and the kubelet started another one
	release = judged(t)
	startsAsUsual(t, node, usual, "another agent runs")
	release()
	agree(t, node)
}

func TestPodsStartWhenTheWorkerIsStopped(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 0)
	agent := runningAgent(t, node, nil)
	p := processesOf(t, agent)
	release := judged(t)
	stopProcesses(t, node, usualStart(t, node), 100*time.Millisecond, "the worker is stopped", p.worker) // half the deadline
	release()

	// The gate gives it half a minute.
	eventually(t, 50*time.Second, func(context.Context) error { return p.hasAnotherWorker(t, node) })
	if now := runningAgent(t, node, nil); incarnation(now) != incarnation(agent) {
		t.Error("the whole agent was started again, where its worker would have done")
	}
	agree(t, node)
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
	node := alone(t, 0)
	agent := runningAgent(t, node, nil)
	p := processesOf(t, agent)
	release := judged(t)
	usual := usualStart(t, node)
	longest := execs(t, node)
	// A cgroup that is too small for it, in the hierarchy of version 1 or of version 2.
	const group = `cd /sys/fs/cgroup; [ ! -d memory ] || cd memory; `
	onNode(t, node, "sh", "-c", group+`mkdir e2e-small; cd e2e-small
		for limit in memory.max memory.limit_in_bytes; do [ ! -e $limit ] || echo 1M >$limit; done; echo $0 >cgroup.procs`, p.worker)
	t.Cleanup(func() { onNodeAtEnd(t, node, "sh", "-c", group+"rmdir e2e-small") })

	startsAsUsual(t, node, usual, "the worker has 1 MiB of memory")
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		scrape(ctx, agent) // which takes memory
		return p.hasAnotherWorker(t, node)
	})
	longest()
	release()
	agree(t, node)
}
