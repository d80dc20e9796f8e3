package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/drift"
)

// maxNamed is how many containers a message names.
const maxNamed = 5

// unreported are the containers that run by the status of their pods, and of which there is no NodeContainer: what they are
// called, by ID.
func unreported(pods []corev1.Pod, containers []v1alpha1.NodeContainer) map[string]string {
	reported := map[string]bool{}
	for i := range containers {
		reported[containers[i].Spec.ContainerID] = true
	}
	missing := map[string]string{}
	for i := range pods {
		p := &pods[i]
		for _, s := range drift.Statuses(p) {
			if id := runningID(&s); id != "" && !reported[id] {
				missing[id] = p.Namespace + "/" + p.Name + "/" + s.Name
			}
		}
	}
	return missing
}

// runningID is the ID of a container that runs; empty where none does. A container that waits to be started again still has
// the ID of the one before.
func runningID(s *corev1.ContainerStatus) string {
	last := s.LastTerminationState.Terminated
	if s.State.Terminated != nil || last != nil && last.ContainerID == s.ContainerID {
		return ""
	}
	_, id, _ := strings.Cut(s.ContainerID, "://")
	return id
}

// overdue are those of missing that have been so for grace, by what they are called, and when the next one will be; since is
// when each was first missed, and is brought up to date.
func overdue(missing map[string]string, since map[string]time.Time, grace time.Duration, now time.Time) (names []string, next time.Duration) {
	maps.DeleteFunc(since, func(id string, _ time.Time) bool { _, still := missing[id]; return !still })
	for id, name := range missing {
		first, known := since[id]
		if !known {
			first = now
			since[id] = now
		}
		left := grace - now.Sub(first)
		switch {
		case left <= 0:
			names = append(names, name)
		case next == 0 || left < next:
			next = left
		}
	}
	slices.Sort(names)
	return names, next
}

// completeness is what the condition Complete says of those.
func completeness(names []string) finding {
	if len(names) == 0 {
		return finding{status: metav1.ConditionTrue, reason: v1alpha1.ReasonAllReported}
	}
	message := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		message += fmt.Sprintf(" and %d more", more)
	}
	return finding{status: metav1.ConditionFalse, reason: v1alpha1.ReasonNotReported, message: "no NodeContainer of " + message}
}

// miss keeps what a node's containers without a NodeContainer are; nothing of a node that has none.
func (r *nodes) miss(node string, since map[string]time.Time, overdue int) {
	r.missing[node], r.overdue[node] = since, overdue
	if len(since) == 0 {
		delete(r.missing, node)
		delete(r.overdue, node)
	}
	sum := 0
	for _, count := range r.overdue {
		sum += count
	}
	r.metrics.unreported.Set(float64(sum))
}

// judgeComplete compares what runs by the status of the node's pods with its NodeContainers. It returns when to look again,
// 0 where nothing is missing.
func (r *nodes) judgeComplete(ctx context.Context, agent *v1alpha1.NodeContainerAgent, now time.Time) (time.Duration, error) {
	pods, err := cache.PodsOn(ctx, r.client, agent.Name)
	if err != nil {
		return 0, err
	}
	containers, err := cache.ContainersOn(ctx, r.client, agent.Name)
	if err != nil {
		return 0, err
	}
	since := r.missing[agent.Name]
	if since == nil {
		since = map[string]time.Time{}
	}
	names, next := overdue(unreported(pods, containers), since, r.options.ReportGrace, now)
	r.miss(agent.Name, since, len(names))

	complete, changed := condition(agent.Status.Conditions, v1alpha1.ConditionComplete, completeness(names), now)
	if !changed {
		return next, nil
	}
	status := apply.NodeContainerAgent(agent.Name).WithUID(agent.UID).
		WithStatus(apply.NodeContainerAgentStatus().WithConditions(complete))
	if err := r.client.Status().Apply(ctx, status, ownerOfComplete, client.ForceOwnership); err != nil {
		return 0, fmt.Errorf("apply status of agent %q: %w", agent.Name, err)
	}
	return next, nil
}
