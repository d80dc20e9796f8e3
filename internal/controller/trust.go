package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// trustFor is how long one look at the API is good for many deletions.
const trustFor = 10 * time.Second

// retryDistrust is when to try again what was not deleted.
const retryDistrust = 30 * time.Second

// trust says whether Pods and Nodes can be read: a container without a pod is no reason to delete anything as long as
// it may be the pods that are missing. It is safe for concurrent use.
type trust struct {
	live, cached client.Reader // the API server, and the cache
	clock        clock.PassiveClock

	mu      sync.Mutex
	checked time.Time
	doubt   error
}

// check returns why nothing may be deleted now, or nil. Every cluster has a pod and a node: this controller's own.
func (t *trust) check(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clock.Since(t.checked) < trustFor {
		return t.doubt
	}
	t.doubt = errors.Join(
		someIn(ctx, "API", t.live, &corev1.PodList{}), someIn(ctx, "cache", t.cached, &corev1.PodList{}),
		someIn(ctx, "API", t.live, &corev1.NodeList{}), someIn(ctx, "cache", t.cached, &corev1.NodeList{}))
	t.checked = t.clock.Now()
	return t.doubt
}

// isGone asks the API server itself for what the cache does not have. It returns nil where it is surely gone: there is
// none of the name, or it is another one.
func (t *trust) isGone(ctx context.Context, key client.ObjectKey, into client.Object, isIt func() bool) error {
	err := t.live.Get(ctx, key, into)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get %T %q: %w", into, key, err)
	case !isIt():
		return nil
	}
	return fmt.Errorf("%T %q is there, and the cache does not know it", into, key)
}

// someIn returns an error unless one object of the kind can be read.
func someIn(ctx context.Context, where string, reader client.Reader, list client.ObjectList) error {
	if err := reader.List(ctx, list, client.Limit(1)); err != nil {
		return fmt.Errorf("read from the %s: %w", where, err)
	}
	if meta.LenList(list) == 0 {
		return fmt.Errorf("the %s has no %T", where, list)
	}
	return nil
}
