package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

// goneFor is how long the node has been absent, and its agent silent. A Node that somebody deleted by mistake comes back
// with its kubelet, and its containers run all the time.
func (s sight) goneFor(now time.Time) time.Duration {
	if s.absent.IsZero() {
		return 0
	}
	return now.Sub(latest(s.absent, s.heard))
}

// sweep deletes everything of a node that is gone for good. The garbage collector does so too, by the owner, but slowly:
// it has the whole cluster to do. agent is nil where the node has none.
func (r *nodes) sweep(ctx context.Context, node string, agent *v1alpha1.NodeContainerAgent, seen sight, now time.Time) (ctrl.Result, error) {
	left, err := cache.ContainersOn(ctx, r.client, node)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(left) == 0 && agent == nil {
		delete(r.known, node)
		r.miss(node, nil, 0)
		return ctrl.Result{}, nil
	}
	if wait := r.options.NodeGoneAfter - seen.goneFor(now); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if doubt := errors.Join(r.trust.check(ctx), r.trust.isGone(ctx, client.ObjectKey{Name: node}, &corev1.Node{}, func() bool { return true })); doubt != nil {
		log.FromContext(ctx).Info("Kept the containers of a node that is gone", "node", node, "doubt", doubt.Error())
		return ctrl.Result{RequeueAfter: retryDistrust}, nil
	}
	if err := r.deleteNode(ctx, node, agent, len(left)); err != nil {
		return ctrl.Result{}, err
	}
	delete(r.known, node) // what the cache still has for a while is not deleted once more
	r.miss(node, nil, 0)
	return ctrl.Result{}, nil
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
	err := r.deleteAsSeen(ctx, agent)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete agent of node %q: %w", node, err)
	}
	return nil
}
