package controller

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// How fast the containers of lost agents are marked, in all: those of ten full nodes take some minutes, and nobody
// notices the load.
const (
	markQPS   = 20
	markBurst = 100
)

// What is said of an agent and of its containers when it is lost, and of its containers when it is heard of again, or has
// forgotten them.
var (
	isLost        = finding{status: metav1.ConditionUnknown, reason: v1alpha1.ReasonAgentLost}
	isBack        = finding{status: metav1.ConditionTrue, reason: v1alpha1.ReasonListing}
	isNotFollowed = finding{status: metav1.ConditionFalse, reason: v1alpha1.ReasonUnobserved}
)

// isMassOutage reports whether more than percent of the agents are silent: then the fault is likely here, or between
// here and there, and nothing is said of their containers. Silent is who missed half of the time after which it is
// lost, since those that went together do not become lost together. One agent is no mass, and one without its node none.
func isMassOutage(known map[string]sight, now time.Time, lostAfter time.Duration, percent int) bool {
	silent, all := 0, 0
	for _, s := range known {
		if s.heartbeat.IsZero() || !s.absent.IsZero() {
			continue
		}
		all++
		if now.Sub(s.heard) > lostAfter/2 {
			silent++
		}
	}
	return silent > 1 && silent*100 > all*percent
}

// listen says so where an agent is lost, and takes it back when the agent is heard of again. An agent writes its own
// Ready with each heartbeat: where that says that the agent is lost it was not heard of since. Of its containers it
// writes only what changes.
func (r *nodes) listen(ctx context.Context, agent *v1alpha1.NodeContainerAgent, seen sight, now time.Time) (ctrl.Result, error) {
	lostAfter := r.options.AgentLostAfter
	left := lostAfter - now.Sub(seen.heard)
	ready := meta.FindStatusCondition(agent.Status.Conditions, v1alpha1.ConditionReady)
	wasLost := ready != nil && ready.Reason == v1alpha1.ReasonAgentLost
	switch {
	case left <= 0 && r.pause(ctx, now):
		return ctrl.Result{RequeueAfter: lostAfter / 2}, nil
	case left <= 0:
		if err := r.markAgent(ctx, agent, now); err != nil {
			return ctrl.Result{}, err
		}
		_, rest, err := r.markContainers(ctx, agent, metav1.ConditionTrue, isLost, now)
		return ctrl.Result{RequeueAfter: rest}, err
	case wasLost: // this controller has begun since
		return ctrl.Result{RequeueAfter: left}, nil
	}
	marked, rest, err := r.markContainers(ctx, agent, metav1.ConditionUnknown, isBack, now)
	if err != nil || rest > 0 {
		return ctrl.Result{RequeueAfter: rest}, err
	}
	if marked > 0 {
		r.events.Eventf(agent, nil, corev1.EventTypeNormal, "AgentBack", "Restore", "The agent is heard of again")
	}
	rest, err = r.endForgotten(ctx, agent, now)
	if err != nil || rest > 0 {
		return ctrl.Result{RequeueAfter: rest}, err
	}
	soon, err := r.judgeComplete(ctx, agent, now)
	return ctrl.Result{RequeueAfter: min(cmp.Or(soon, left), left)}, err
}

// pause reports whether there is a mass outage.
func (r *nodes) pause(ctx context.Context, now time.Time) bool {
	paused := isMassOutage(r.known, now, r.options.AgentLostAfter, r.options.MassOutagePercent)
	if paused != r.paused {
		log.FromContext(ctx).Info("Mass outage of agents: their containers are left as they are", "paused", paused)
		r.paused = paused
	}
	return paused
}

// markAgent says of the agent that it is lost.
func (r *nodes) markAgent(ctx context.Context, agent *v1alpha1.NodeContainerAgent, now time.Time) error {
	ready, changed := condition(agent.Status.Conditions, v1alpha1.ConditionReady, isLost, now)
	if !changed {
		return nil
	}
	status := apply.NodeContainerAgent(agent.Name).WithUID(agent.UID).
		WithStatus(apply.NodeContainerAgentStatus().WithConditions(ready))
	if err := r.client.Status().Apply(ctx, status, ownerOfObserved, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply status of agent %q: %w", agent.Name, err)
	}
	r.events.Eventf(agent, nil, corev1.EventTypeWarning, v1alpha1.ReasonAgentLost, "Wait", "The agent has not been heard of for %v", r.options.AgentLostAfter)
	return nil
}

// markContainers writes found to Observed of those of the agent's containers that live and have it otherwise. It returns
// how many it wrote, and when to go on where there were too many for now. What the agent has not confirmed is not back.
func (r *nodes) markContainers(ctx context.Context, agent *v1alpha1.NodeContainerAgent, from metav1.ConditionStatus, found finding, now time.Time) (int, time.Duration, error) {
	return r.each(ctx, agent.Name, func(c *v1alpha1.NodeContainer) bool {
		return c.Status.State != v1alpha1.StateStopped && !(found == isBack && isUnconfirmed(c, agent.Status.ObservedSince)) &&
			meta.IsStatusConditionPresentAndEqual(c.Status.Conditions, v1alpha1.ConditionObserved, from)
	}, func(c *v1alpha1.NodeContainer) error { return r.observe(ctx, c, found, now) })
}
