package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/drift"
)

// quietFor is how long nothing is written of a container that no pod's status has yet: most have it by then.
const quietFor = 5 * time.Second

// containers reconciles one NodeContainer at a time: match, drift, reboot, retire.
type containers struct{ common }

func (r *containers) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var c v1alpha1.NodeContainer
	if err := r.client.Get(ctx, request.NamespacedName, &c); err != nil || !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var node corev1.Node
	err := r.client.Get(ctx, client.ObjectKey{Name: c.Spec.NodeName}, &node)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("get node %q: %w", c.Spec.NodeName, err)
	}
	now := r.clock.Now()
	if outlivedByNode(&c, &node) {
		return ctrl.Result{}, endUnseen(ctx, r.client, &c, v1alpha1.ReasonRebooted, now)
	}
	pods, err := cache.PodsOf(ctx, r.client, &c)
	if err != nil {
		return ctrl.Result{}, err
	}
	found, pod := match(&c, pods, now)
	due, reason := retire(&c, found, r.options, now)
	if !due.IsZero() && !due.After(now) {
		return r.delete(ctx, &c, reason)
	}
	if found.reason == v1alpha1.ReasonPending && now.Sub(bornAt(&c)) < quietFor {
		return ctrl.Result{RequeueAfter: quietFor}, nil
	}
	if err := r.writeMatch(ctx, &c, found, pod, now); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.deleteExcess(ctx, &c); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: next(&c, found, due, now)}, nil
}

// next is how long from now time alone changes what is to be done: never where it is zero.
func next(c *v1alpha1.NodeContainer, found finding, due, now time.Time) time.Duration {
	pending := bornAt(c).Add(pendingFor)
	switch {
	case found.reason == v1alpha1.ReasonPending && (due.IsZero() || pending.Before(due)):
		return max(pending.Sub(now), time.Second)
	case !due.IsZero():
		return due.Sub(now)
	}
	return 0
}

// writeMatch writes PodMatched, and SpecMatched of a container with a pod, where they changed. What is said of the spec of a
// container that stopped stays: its pod may ask for something else by now.
func (r *containers) writeMatch(ctx context.Context, c *v1alpha1.NodeContainer, found finding, pod *corev1.Pod, now time.Time) error {
	podMatched, changed := condition(c.Status.Conditions, v1alpha1.ConditionPodMatched, found, now)
	status := apply.NodeContainerStatus().WithConditions(podMatched)

	before := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionSpecMatched)
	var judged finding
	switch {
	case pod != nil && (before == nil || c.Status.State != v1alpha1.StateStopped):
		judged = compare(c, pod)
	case before != nil:
		judged = finding{before.Status, before.Reason, before.Message}
	}
	if judged.reason != "" {
		specMatched, differs := condition(c.Status.Conditions, v1alpha1.ConditionSpecMatched, judged, now)
		status.WithConditions(specMatched)
		changed = changed || differs
	}
	if !changed {
		return nil
	}
	return applyStatus(ctx, r.client, c, ownerOfMatch, status)
}

// compare says whether c has what p, its pod, asked for, and no more. Facts that are missing are judged neither way: an
// absent field may be one that could not be read.
func compare(c *v1alpha1.NodeContainer, p *corev1.Pod) finding {
	facts := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionFactsMissing)
	missing := facts != nil && facts.Status == metav1.ConditionTrue
	if missing && facts.Reason == v1alpha1.ReasonIncomplete {
		return finding{metav1.ConditionUnknown, v1alpha1.ReasonFactsMissing, "what the container has is not known"}
	}
	differences := drift.Differences(c, p)
	switch {
	case len(differences) == 0 && missing:
		return finding{metav1.ConditionUnknown, v1alpha1.ReasonFactsMissing, "some of what the container has was cut"}
	case len(differences) == 0:
		return finding{status: metav1.ConditionTrue, reason: v1alpha1.ReasonAsRequested}
	}
	return finding{metav1.ConditionFalse, v1alpha1.ReasonDiffers, strings.Join(differences, "; ")}
}

// endUnseen says that c ended, and that no agent will say how. It is retired as any other that stopped.
func endUnseen(ctx context.Context, w client.Client, c *v1alpha1.NodeContainer, reason string, now time.Time) error {
	observed, _ := condition(c.Status.Conditions, v1alpha1.ConditionObserved, finding{metav1.ConditionFalse, reason, ""}, now)
	return applyStatus(ctx, w, c, ownerOfObserved, apply.NodeContainerStatus().
		WithState(v1alpha1.StateStopped).WithReason(v1alpha1.StopExitUnknown).WithConditions(observed))
}

// deleteExcess deletes what is one too many of those that stopped with the name of c.
func (r *containers) deleteExcess(ctx context.Context, c *v1alpha1.NodeContainer) error {
	if c.Status.State != v1alpha1.StateStopped {
		return nil
	}
	stopped, err := cache.StoppedLike(ctx, r.client, c)
	if err != nil {
		return err
	}
	for _, old := range excess(stopped, r.options.KeepStoppedPerName) {
		if _, err := r.delete(ctx, &old, deletedTooMany); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes c as it was seen, unless the grounds for it are in doubt: then it is tried again.
func (r *containers) delete(ctx context.Context, c *v1alpha1.NodeContainer, reason string) (ctrl.Result, error) {
	doubt := r.trust.check(ctx)
	if doubt == nil && reason == deletedPodGone {
		var pod corev1.Pod
		doubt = r.trust.isGone(ctx, client.ObjectKey{Namespace: c.Spec.Pod.Namespace, Name: c.Spec.Pod.Name}, &pod,
			func() bool { return isClaimed(&pod, c.Spec.Pod) })
	}
	if doubt != nil {
		log.FromContext(ctx).V(1).Info("Kept what would be deleted", "reason", reason, "doubt", doubt.Error())
		return ctrl.Result{RequeueAfter: retryDistrust}, nil
	}
	err := r.deleteAsSeen(ctx, c)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err): // it changed: what changed comes by the watch
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("delete %q: %w", c.Name, err)
	}
	r.metrics.deleted.WithLabelValues(reason).Inc()
	return ctrl.Result{}, nil
}
