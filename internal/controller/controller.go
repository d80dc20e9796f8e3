package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

// Options are the figures of the policies. All are required; DefaultOptions has those of the flags.
type Options struct {
	StoppedTTL          time.Duration // how long a stopped container with a pod is kept
	UnmatchedStoppedTTL time.Duration // how long one without a pod is kept
	KeepStoppedPerName  int           // how many stopped ones of one node and name are kept
	MaxObjects          int           // from how many NodeContainers on agents make no new ones
	NodeGoneAfter       time.Duration // how long a Node must be absent, and its agent silent, to be gone
	AgentLostAfter      time.Duration // how long an agent must be silent to be lost
	ReportGrace         time.Duration // how long a container may be in its pod's status without a NodeContainer
	MassOutagePercent   int           // of how many lost agents on nothing is said of their containers
}

// DefaultOptions returns the figures that a cluster of 5,000 nodes does well with, and a small one too.
func DefaultOptions() Options {
	return Options{
		StoppedTTL:          5 * time.Minute,
		UnmatchedStoppedTTL: time.Hour,
		KeepStoppedPerName:  10,
		MaxObjects:          100_000,
		NodeGoneAfter:       90 * time.Second, // longer than the minute between two heartbeats
		AgentLostAfter:      5 * time.Minute,
		ReportGrace:         30 * time.Second, // agents write within a second, and later where the API server is busy
		MassOutagePercent:   30,
	}
}

// Validate returns an error where a figure makes no sense.
func (o *Options) Validate() error {
	switch {
	case o.StoppedTTL < 0, o.UnmatchedStoppedTTL < 0:
		return errors.New("a TTL is negative")
	case o.KeepStoppedPerName < 1, o.MaxObjects < 1:
		return errors.New("a number of objects is under 1")
	case o.NodeGoneAfter <= 0, o.AgentLostAfter <= 0:
		return errors.New("a time to wait is not positive")
	case o.MassOutagePercent < 0, o.MassOutagePercent > 100:
		return errors.New("a percentage is not between 0 and 100")
	}
	return nil
}

// Setup adds the controllers to mgr, which must have been made with cache.Options, and their figures to registry.
func Setup(ctx context.Context, mgr ctrl.Manager, registry prometheus.Registerer, o Options) error {
	figures, err := newMetrics(registry)
	if err != nil {
		return err
	}
	for _, index := range cache.Indexes {
		if err := mgr.GetFieldIndexer().IndexField(ctx, index.Object, index.Field, index.Values); err != nil {
			return fmt.Errorf("index %T by %s: %w", index.Object, index.Field, err)
		}
	}
	cached := mgr.GetClient()
	shared := common{client: cached, trust: &trust{live: mgr.GetAPIReader(), cached: cached, clock: clock.RealClock{}}, options: &o, metrics: figures,
		clock: clock.RealClock{}}
	err = ctrl.NewControllerManagedBy(mgr).Named("containers").
		For(&v1alpha1.NodeContainer{}).
		Watches(&corev1.Pod{}, containersOfPod(cached)).
		Watches(&corev1.Node{}, containersOfNode(cached), builder.WithPredicates(booted())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(&containers{shared})
	if err != nil {
		return fmt.Errorf("add controller of containers: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("nodes").
		For(&corev1.Node{}, builder.WithPredicates(comesOrGoes)).
		Watches(&v1alpha1.NodeContainerAgent{}, &handler.EnqueueRequestForObject{}).
		Watches(&v1alpha1.NodeContainer{}, nodeOfContainer(), builder.WithPredicates(comesOrGoes)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(&nodes{
			common: shared, events: mgr.GetEventRecorder("containerhook-controller"),
			known: make(map[string]sight), missing: make(map[string]map[string]time.Time), overdue: make(map[string]int),
			marks: flowcontrol.NewTokenBucketRateLimiter(markQPS, markBurst),
		})
	if err != nil {
		return fmt.Errorf("add controller of nodes: %w", err)
	}
	return mgr.Add(&breaker{shared})
}

// common is what reconcilers have.
type common struct {
	client  client.Client // reads from the cache
	trust   *trust
	options *Options
	metrics *metrics
	clock   clock.PassiveClock
}

// deleteAsSeen deletes o, unless it has changed since it was read.
func (r *common) deleteAsSeen(ctx context.Context, o client.Object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return r.client.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &version})
}

// containersOfPod asks for every container that may be of a pod.
func containersOfPod(cached client.Reader) handler.EventHandler {
	return containersFor(func(ctx context.Context, o client.Object) ([]v1alpha1.NodeContainer, error) {
		return cache.ContainersOf(ctx, cached, o.(*corev1.Pod))
	})
}

func containersOfNode(cached client.Reader) handler.EventHandler {
	return containersFor(func(ctx context.Context, o client.Object) ([]v1alpha1.NodeContainer, error) {
		return cache.ContainersOn(ctx, cached, o.GetName())
	})
}

func containersFor(find func(context.Context, client.Object) ([]v1alpha1.NodeContainer, error)) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		found, err := find(ctx, o)
		if err != nil {
			return nil // the cache is stopping
		}
		var requests []reconcile.Request
		for i := range found {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&found[i])})
		}
		return requests
	})
}

func nodeOfContainer() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.(*v1alpha1.NodeContainer).Spec.NodeName}}}
	})
}

// booted lets a Node pass that has another boot ID than before, or was not known.
func booted() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.(*corev1.Node).Status.NodeInfo.BootID != e.ObjectNew.(*corev1.Node).Status.NodeInfo.BootID
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

// comesOrGoes lets pass what is new, and what was deleted.
var comesOrGoes = predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
