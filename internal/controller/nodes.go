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
)

// nodes reconciles one node at a time: sweep and lost. It has one worker, so nothing of it is locked.
type nodes struct {
	client  client.Client // reads from the cache
	live    client.Reader // reads from the API server
	trust   *trust
	options *Options
	metrics *metrics
	events  events.EventRecorder

	absences map[string]absence      // by node
	pulses   map[string]pulse        // by node
	marks    flowcontrol.RateLimiter // of the containers of lost agents
	paused   bool                    // so many agents are lost that nothing is said of them
}

func (r *nodes) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	agent := &v1alpha1.NodeContainerAgent{}
	err := r.client.Get(ctx, request.NamespacedName, agent)
	switch {
	case apierrors.IsNotFound(err):
		agent = nil
		delete(r.pulses, request.Name)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get agent of %q: %w", request.Name, err)
	}
	err = r.client.Get(ctx, request.NamespacedName, &corev1.Node{})
	switch {
	case apierrors.IsNotFound(err):
		return r.sweep(ctx, request.Name, agent)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get node %q: %w", request.Name, err)
	}
	delete(r.absences, request.Name)
	if agent == nil {
		return ctrl.Result{}, nil
	}
	return r.listen(ctx, agent)
}

// containersOf returns the containers of a node. They are the cache's own.
func (r *nodes) containersOf(ctx context.Context, node string) ([]v1alpha1.NodeContainer, error) {
	var list v1alpha1.NodeContainerList
	err := r.client.List(ctx, &list, client.MatchingFields{containerByNode: node}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list containers of node %q: %w", node, err)
	}
	return list.Items, nil
}

// heartbeatOf is zero where there is no agent, or none that wrote its status yet.
func heartbeatOf(agent *v1alpha1.NodeContainerAgent) time.Time {
	if agent == nil || agent.Status.HeartbeatTime == nil {
		return time.Time{}
	}
	return agent.Status.HeartbeatTime.Time
}
