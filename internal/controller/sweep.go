package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// absence is a Node that was not there when the API server was asked.
type absence struct {
	since     time.Time
	heartbeat time.Time // of the node's agent at that time
}

// isGone reports whether the node is gone for good: absent again after some time in which its agent said nothing. A
// Node that somebody deleted by mistake comes back with its kubelet, and its containers run all the time.
func (a absence) isGone(now, heartbeat time.Time, after time.Duration) bool {
	return now.Sub(a.since) >= after && heartbeat.Equal(a.heartbeat)
}

// sweep deletes everything of a node that is gone for good. The garbage collector does so too, by the owner, but slowly:
// it has the whole cluster to do. agent is nil where the node has none.
func (r *nodes) sweep(ctx context.Context, node string, agent *v1alpha1.NodeContainerAgent) (ctrl.Result, error) {
	left, err := r.containersOf(ctx, node)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(left) == 0 && agent == nil {
		delete(r.absences, node)
		return ctrl.Result{}, nil
	}
	err = r.live.Get(ctx, client.ObjectKey{Name: node}, &corev1.Node{})
	switch {
	case err == nil: // the cache is behind
		delete(r.absences, node)
		return ctrl.Result{RequeueAfter: r.options.NodeGoneAfter}, nil
	case !apierrors.IsNotFound(err):
		delete(r.absences, node)
		return ctrl.Result{}, fmt.Errorf("get node %q: %w", node, err)
	}
	now, heartbeat := time.Now(), heartbeatOf(agent)
	first, ok := r.absences[node]
	if !ok || !heartbeat.Equal(first.heartbeat) {
		first = absence{since: now, heartbeat: heartbeat}
		r.absences[node] = first
	}
	if !first.isGone(now, heartbeat, r.options.NodeGoneAfter) {
		return ctrl.Result{RequeueAfter: first.since.Add(r.options.NodeGoneAfter).Sub(now)}, nil
	}
	if doubt := r.trust.check(ctx); doubt != nil {
		log.FromContext(ctx).Info("Kept the containers of a node that is gone", "node", node, "doubt", doubt.Error())
		return ctrl.Result{RequeueAfter: retryDistrust}, nil
	}
	delete(r.absences, node)
	return ctrl.Result{}, r.deleteNode(ctx, node, agent, len(left))
}

func (r *nodes) deleteNode(ctx context.Context, node string, agent *v1alpha1.NodeContainerAgent, count int) error {
	ofNode := client.MatchingFields{v1alpha1.FieldNodeName: node}
	if err := r.client.DeleteAllOf(ctx, &v1alpha1.NodeContainer{}, ofNode); err != nil {
		return fmt.Errorf("delete containers of node %q: %w", node, err)
	}
	r.metrics.deleted.WithLabelValues(deletedNodeGone).Add(float64(count))
	log.FromContext(ctx).Info("Deleted the containers of a node that is gone", "node", node, "count", count)
	if agent == nil {
		return nil
	}
	asSeen := client.Preconditions{UID: &agent.UID, ResourceVersion: &agent.ResourceVersion}
	err := r.client.Delete(ctx, agent, asSeen)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete agent of node %q: %w", node, err)
	}
	return nil
}
