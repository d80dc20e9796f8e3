package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration"
	"github.com/containerhook/containerhook/internal/cache"
)

// errEmpty has a kind read as if there were none of it.
var errEmpty = errors.New("empty")

// fault is what reading a kind gives instead of the objects: an error, errEmpty, or nil for the objects.
type fault struct{ pods, nodes error }

func (f fault) of(o any) error {
	switch o.(type) {
	case *corev1.Pod, *corev1.PodList:
		return f.pods
	case *corev1.Node, *corev1.NodeList:
		return f.nodes
	}
	return nil
}

// deletion is one call of delete, with its preconditions, or of deletecollection.
type deletion struct {
	one             bool
	uid             types.UID
	resourceVersion string
}

// world is a cluster in which reading can fail, for the reconcilers without their queues.
type world struct {
	api           client.WithWatch
	cached, live  fault
	cachedWithout string // the name of a pod or node that the cache does not have
	deletes       map[string]deletion

	containers *containers
	nodes      *nodes
}

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.NodeContainer{}, &v1alpha1.NodeContainerAgent{}).
		WithTypeConverters(applyconfiguration.NewTypeConverter(scheme), applyconfigurations.NewTypeConverter(scheme))
	for _, index := range cache.Indexes {
		builder.WithIndex(index.Object, index.Field, index.Values)
	}
	w := &world{api: builder.Build(), deletes: make(map[string]deletion)}
	cached := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if key.Name == w.cachedWithout {
				return notFound(key.Name)
			}
			return get(ctx, c, w.cached, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			err := list(ctx, c, w.cached, l, opts...)
			if pods, isPods := l.(*corev1.PodList); isPods {
				pods.Items = without(pods.Items, w.cachedWithout)
			}
			return err
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			options := (&client.DeleteOptions{}).ApplyOptions(opts)
			seen := deletion{one: true}
			if p := options.Preconditions; p != nil && p.UID != nil && p.ResourceVersion != nil {
				seen.uid, seen.resourceVersion = *p.UID, *p.ResourceVersion
			}
			w.deletes[o.GetName()] = seen
			return c.Delete(ctx, o, opts...)
		},
		DeleteAllOf: func(_ context.Context, _ client.WithWatch, _ client.Object, opts ...client.DeleteAllOfOption) error {
			options := (&client.DeleteAllOfOptions{}).ApplyOptions(opts)
			w.deletes[options.FieldSelector.String()] = deletion{}
			return nil
		},
	})
	live := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return get(ctx, c, w.live, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			return list(ctx, c, w.live, l, opts...)
		},
	})
	figures, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	shared := common{client: cached, trust: &trust{live: live, cached: cached, clock: clock.RealClock{}}, options: &o, metrics: figures,
		clock: clock.RealClock{}} // in a bubble of its own: testing/synctest
	w.containers = &containers{shared}
	w.nodes = &nodes{common: shared, events: events.NewFakeRecorder(1000),
		marks: flowcontrol.NewTokenBucketRateLimiter(markQPS, markBurst), known: make(map[string]sight),
		missing: make(map[string]map[string]time.Time), overdue: make(map[string]int)}
	return w
}

func get(ctx context.Context, c client.Client, f fault, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	err := f.of(o)
	switch {
	case errors.Is(err, errEmpty):
		return notFound(key.Name)
	case err != nil:
		return err
	}
	return c.Get(ctx, key, o, opts...)
}

func list(ctx context.Context, c client.Client, f fault, l client.ObjectList, opts ...client.ListOption) error {
	err := f.of(l)
	switch {
	case errors.Is(err, errEmpty):
		return nil
	case err != nil:
		return err
	}
	return c.List(ctx, l, opts...)
}

func without(pods []corev1.Pod, name string) []corev1.Pod {
	var rest []corev1.Pod
	for _, p := range pods {
		if p.Name != name {
			rest = append(rest, p)
		}
	}
	return rest
}

func notFound(name string) error { return apierrors.NewNotFound(schema.GroupResource{}, name) }

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name + "-uid")},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "boot-1"}}}
}

func (w *world) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if o.GetUID() == "" || o.GetUID() == "c1-uid" {
			o.SetUID(types.UID(o.GetName() + "-uid"))
		}
		status := o.DeepCopyObject().(client.Object)
		if err := w.api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		status.SetResourceVersion(o.GetResourceVersion())
		if err := w.api.Status().Update(t.Context(), status); err != nil {
			t.Fatal(err)
		}
	}
}

// run reconciles everything once a minute. Errors are what it is about: they are tried again.
func (w *world) run(t *testing.T, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(time.Minute) {
		w.reconcile(t)
	}
}

func (w *world) reconcile(t *testing.T) {
	t.Helper()
	var all v1alpha1.NodeContainerList
	var agents v1alpha1.NodeContainerAgentList
	if err := errors.Join(w.api.List(t.Context(), &all), w.api.List(t.Context(), &agents)); err != nil {
		t.Fatal(err)
	}
	nodes := make(map[string]bool)
	for _, c := range all.Items {
		nodes[c.Spec.NodeName] = true
		if _, err := w.containers.Reconcile(t.Context(), requestOf(c.Name)); err != nil {
			t.Logf("containers: %v", err)
		}
	}
	for _, a := range agents.Items {
		nodes[a.Name] = true
	}
	for name := range nodes {
		if _, err := w.nodes.Reconcile(t.Context(), requestOf(name)); err != nil {
			t.Logf("nodes: %v", err)
		}
	}
}

func requestOf(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: client.ObjectKey{Name: name}}
}

func (d deletion) String() string {
	return fmt.Sprintf("{one: %v, uid: %q, resourceVersion: %q}", d.one, d.uid, d.resourceVersion)
}
