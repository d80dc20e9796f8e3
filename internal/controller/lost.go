package controller

import (
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

// pulse is what is known of an agent's heartbeats. Only that they change counts, as with leases: clocks differ.
type pulse struct {
	heartbeat time.Time // by the agent's clock
	heard     time.Time // when it changed last, or was first seen, by this one
	beats     bool      // it changed since it was first seen
	restored  bool      // nothing says any more that the agent is lost
}

type agentState int

const (
	agentUnheard agentState = iota // since this controller began: neither is known
	agentAlive
	agentLost
)

// heardOf returns p after the agent's heartbeat was read.
func (p pulse) heardOf(heartbeat, now time.Time) pulse {
	switch {
	case p.heard.IsZero():
		p.heartbeat, p.heard = heartbeat, now
	case !heartbeat.Equal(p.heartbeat):
		p.heartbeat, p.heard, p.beats = heartbeat, now, true
	}
	return p
}

func (p pulse) state(now time.Time, lostAfter time.Duration) agentState {
	switch {
	case now.Sub(p.heard) >= lostAfter:
		return agentLost
	case p.beats:
		return agentAlive
	}
	return agentUnheard
}

// isMassOutage reports whether more than percent of the agents are silent: then the fault is likely here, or between
// here and there, and nothing is said of their containers. Silent is who missed half of the time after which it is
// lost, since those that went together do not become lost together. One agent is no mass.
func isMassOutage(pulses map[string]pulse, now time.Time, lostAfter time.Duration, percent int) bool {
	silent := 0
	for _, p := range pulses {
		if now.Sub(p.heard) > lostAfter/2 {
			silent++
		}
	}
	return silent > 1 && silent*100 > len(pulses)*percent
}

// listen says so where an agent is lost, and takes it back when the agent is heard of again: the agent writes its own
// Ready with each heartbeat, but of its containers only what changes.
func (r *nodes) listen(ctx context.Context, agent *v1alpha1.NodeContainerAgent) (ctrl.Result, error) {
	now, lostAfter := time.Now(), r.options.AgentLostAfter
	p := r.pulses[agent.Name].heardOf(heartbeatOf(agent), now)
	state := p.state(now, lostAfter)
	p.restored = p.restored && state != agentLost
	r.pulses[agent.Name] = p

	switch {
	case state == agentLost && r.pause(ctx, now):
		return ctrl.Result{RequeueAfter: lostAfter / 2}, nil
	case state == agentLost:
		if err := r.markAgent(ctx, agent, now); err != nil {
			return ctrl.Result{}, err
		}
		_, rest, err := r.markContainers(ctx, agent.Name, metav1.ConditionTrue,
			finding{metav1.ConditionUnknown, v1alpha1.ReasonAgentLost, ""}, now)
		return ctrl.Result{RequeueAfter: rest}, err
	case state == agentAlive && !p.restored:
		marked, rest, err := r.markContainers(ctx, agent.Name, metav1.ConditionUnknown,
			finding{metav1.ConditionTrue, v1alpha1.ReasonListing, ""}, now)
		if err != nil || rest > 0 {
			return ctrl.Result{RequeueAfter: rest}, err
		}
		if marked > 0 {
			r.events.Eventf(agent, nil, corev1.EventTypeNormal, "AgentBack", "Restore", "The agent is heard of again")
		}
		p.restored = marked == 0 // seen to be so
		r.pulses[agent.Name] = p
	}
	return ctrl.Result{RequeueAfter: p.heard.Add(lostAfter).Sub(now)}, nil
}

// pause reports whether there is a mass outage.
func (r *nodes) pause(ctx context.Context, now time.Time) bool {
	paused := isMassOutage(r.pulses, now, r.options.AgentLostAfter, r.options.MassOutagePercent)
	if paused != r.paused {
		log.FromContext(ctx).Info("Mass outage of agents: their containers are left as they are", "paused", paused)
		r.paused = paused
	}
	return paused
}

// markAgent says of the agent that it is lost.
func (r *nodes) markAgent(ctx context.Context, agent *v1alpha1.NodeContainerAgent, now time.Time) error {
	ready, changed := condition(agent.Status.Conditions, v1alpha1.ConditionReady,
		finding{metav1.ConditionUnknown, v1alpha1.ReasonAgentLost, ""}, now)
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

// markContainers writes found to Observed of those of the node's containers that live and have it otherwise. It returns
// how many it wrote, and when to go on where there were too many for now.
func (r *nodes) markContainers(ctx context.Context, node string, from metav1.ConditionStatus, found finding, now time.Time) (int, time.Duration, error) {
	all, err := r.containersOf(ctx, node)
	if err != nil {
		return 0, 0, err
	}
	marked := 0
	for i := range all {
		c := &all[i]
		if c.Status.State == v1alpha1.StateStopped || !meta.IsStatusConditionPresentAndEqual(c.Status.Conditions, v1alpha1.ConditionObserved, from) {
			continue
		}
		if !r.marks.TryAccept() {
			return marked, time.Second, nil
		}
		observed, _ := condition(c.Status.Conditions, v1alpha1.ConditionObserved, found, now)
		if err := applyStatus(ctx, r.client, c, ownerOfObserved, apply.NodeContainerStatus().WithConditions(observed)); err != nil {
			return marked, 0, err
		}
		marked++
	}
	return marked, 0, nil
}
