package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

// nodes reconciles one node at a time: sweep, lost and forgotten. It has one worker, so nothing of it is locked.
type nodes struct {
	common
	events  events.EventRecorder
	known   map[string]sight                // by node
	missing map[string]map[string]time.Time // by node and container ID: since when one has no NodeContainer
	overdue map[string]int                  // by node: how many of them are said to have none
	marks   flowcontrol.RateLimiter         // of the containers of lost agents
	paused  bool                            // so many agents are lost that nothing is said of them
}

// sight is what this controller has seen of a node and its agent. Of heartbeats only that they change counts, as with
// leases: clocks differ.
type sight struct {
	heartbeat time.Time // the agent's, by its own clock; zero where there is none
	heard     time.Time // when that changed last, or was first seen, by this clock
	absent    time.Time // since when there is no Node; zero while there is one
}

// next returns s after the node was looked at again.
func (s sight) next(heartbeat time.Time, isThere bool, now time.Time) sight {
	if s.heard.IsZero() || !s.heartbeat.Equal(heartbeat) {
		s.heartbeat, s.heard = heartbeat, now
	}
	switch {
	case isThere:
		s.absent = time.Time{}
	case s.absent.IsZero():
		s.absent = now
	}
	return s
}

func (r *nodes) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	agent := &v1alpha1.NodeContainerAgent{}
	err := r.client.Get(ctx, request.NamespacedName, agent)
	switch {
	case apierrors.IsNotFound(err):
		agent = nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get agent of %q: %w", request.Name, err)
	}
	err = r.client.Get(ctx, request.NamespacedName, &corev1.Node{})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("get node %q: %w", request.Name, err)
	}
	isThere, now := err == nil, r.clock.Now()
	seen := r.known[request.Name].next(heartbeatOf(agent), isThere, now)
	r.known[request.Name] = seen
	switch {
	case !isThere:
		return r.sweep(ctx, request.Name, agent, seen, now)
	case agent == nil:
		return ctrl.Result{}, nil
	}
	return r.listen(ctx, agent, seen, now)
}

// heartbeatOf is zero where there is no agent, or none that wrote its status yet.
func heartbeatOf(agent *v1alpha1.NodeContainerAgent) time.Time {
	if agent == nil || agent.Status.HeartbeatTime == nil {
		return time.Time{}
	}
	return agent.Status.HeartbeatTime.Time
}

// observe writes found to Observed of c.
func (r *nodes) observe(ctx context.Context, c *v1alpha1.NodeContainer, found finding, now time.Time) error {
	observed, _ := condition(c.Status.Conditions, v1alpha1.ConditionObserved, found, now)
	return applyStatus(ctx, r.client, c, ownerOfObserved, apply.NodeContainerStatus().WithConditions(observed))
}

// each writes those of the node's containers that are, as many as may be written now. It returns how many it wrote, and
// when to go on where there are more.
func (r *nodes) each(ctx context.Context, node string, is func(*v1alpha1.NodeContainer) bool, write func(*v1alpha1.NodeContainer) error) (int, time.Duration, error) {
	all, err := cache.ContainersOn(ctx, r.client, node)
	if err != nil {
		return 0, 0, err
	}
	written := 0
	for i := range all {
		if !is(&all[i]) {
			continue
		}
		if !r.marks.TryAccept() {
			return written, time.Second, nil
		}
		if err := write(&all[i]); err != nil {
			return written, 0, err
		}
		written++
	}
	return written, 0, nil
}
