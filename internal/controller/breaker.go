package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// closeBreakerPercent is how far below the cap the number of objects must fall for agents to make new ones again.
const closeBreakerPercent = 90

// countEvery is how often objects are counted: between two counts there may be more than the cap.
const countEvery = 5 * time.Second

// breakerOpens reports whether agents must make no new objects, by whether they must not so far.
func breakerOpens(open bool, objects, maxObjects int) bool {
	if open {
		return objects >= maxObjects*closeBreakerPercent/100
	}
	return objects >= maxObjects
}

// breaker counts the objects, for the metrics and for the cap.
type breaker struct{ common }

// Start counts until ctx ends. What fails is tried again with the next count.
func (b *breaker) Start(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		if err := b.count(ctx); err != nil {
			log.FromContext(ctx).Error(err, "Counting was not finished")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *breaker) count(ctx context.Context) error {
	var list v1alpha1.NodeContainerList
	if err := b.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var agents v1alpha1.NodeContainerAgentList
	if err := b.client.List(ctx, &agents, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	unmatched := make(map[string]int)
	for i := range list.Items {
		podMatched := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionPodMatched)
		if podMatched != nil && podMatched.Status == metav1.ConditionFalse {
			unmatched[podMatched.Reason]++
		}
	}
	// The API knows better than a controller that may be new whether the breaker is open so far.
	before := slices.ContainsFunc(agents.Items, func(a v1alpha1.NodeContainerAgent) bool { return a.Spec.SuspendCreates })
	open := breakerOpens(before, len(list.Items), b.options.MaxObjects)
	if open != before {
		log.FromContext(ctx).Info("Breaker changed", "open", open, "objects", len(list.Items), "max", b.options.MaxObjects)
	}
	b.metrics.counted(len(list.Items), unmatched, open)
	return b.setSuspended(ctx, agents.Items, open)
}

// setSuspended sets suspendCreates of every agent that has it otherwise. The agent reads it in the answer to its next write.
func (b *breaker) setSuspended(ctx context.Context, agents []v1alpha1.NodeContainerAgent, open bool) error {
	for i := range agents {
		agent := &agents[i]
		if agent.Spec.SuspendCreates == open {
			continue
		}
		spec := apply.NodeContainerAgent(agent.Name).WithUID(agent.UID).
			WithSpec(apply.NodeContainerAgentSpec().WithSuspendCreates(open))
		if err := b.client.Apply(ctx, spec, ownerOfMatch, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply spec of agent %q: %w", agent.Name, err)
		}
	}
	return nil
}
