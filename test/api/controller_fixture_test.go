package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/controller"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

// shop is a namespace in which pods can be made.
const shop = "shop"

// running is the controller of a test.
type running struct {
	requests *deletions
	metrics  prometheus.Gatherer
}

// startController runs the controller for the time of the test, with no more rights than its service account has. Its
// node and its pod are what tells it that the API can be read.
func startController(t *testing.T, plane *controlplane.ControlPlane, change func(*controller.Options)) running {
	t.Helper()
	newNode(t, plane, "controllers")
	rights, err := plane.PodClient(t.Context(), system, "containerhook-controller", "controllers")
	if err != nil {
		t.Fatal(err)
	}
	requests := &deletions{}
	rights.Wrap(requests.wrap)
	skip := true // the names of controllers are the process's, and every test has them
	mgr, err := ctrl.NewManager(rights, ctrl.Options{
		Scheme: newClient(t, plane.Config).Scheme(), Cache: cache.Options(), Logger: logr.Discard(),
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: &skip},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := controller.DefaultOptions()
	change(&o)
	registry := prometheus.NewRegistry()
	ctx, stop := context.WithCancel(t.Context())
	if err := controller.Setup(ctx, mgr, registry, o); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return running{requests: requests, metrics: registry}
}

// metric returns the value of a metric, with its only label where it has one.
func (r running) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s{%s}", name, label)
	return 0
}

// deletions are the requests to delete, as they went over the wire.
type deletions struct {
	mu  sync.Mutex
	all []string // path?query body
}

func (d *deletions) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodDelete {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			d.mu.Lock()
			defer d.mu.Unlock()
			d.all = append(d.all, r.URL.RequestURI()+" "+string(body))
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// with returns those that have the text.
func (d *deletions) with(text string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var some []string
	for _, one := range d.all {
		if strings.Contains(one, text) {
			some = append(some, one)
		}
	}
	return some
}

// newShop makes the namespace, with the service account that its pods have. It stays: there is nobody to finalize it.
func newShop(t *testing.T, c client.Client) {
	t.Helper()
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "default"}},
	} {
		if err := client.IgnoreAlreadyExists(c.Create(t.Context(), o)); err != nil {
			t.Fatal(err)
		}
	}
}

// tell makes an object, and then its status, which a first write leaves out, for the time of the test.
func tell(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Status json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(raw, &told); err != nil {
		t.Fatal(err)
	}
	create(t, c, object)
	patchStatus(t, c, object, fmt.Sprintf(`{"status":%s}`, told.Status))
}

// newPod returns a pod of one container on node, in whose status the container has the ID.
func newPod(name, node, id string) *corev1.Pod {
	now := int64(0)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: name},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "none"}},
			TerminationGracePeriodSeconds: &now},
	}
	if id != "" {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", ContainerID: "containerd://" + id}}
	}
	return p
}

// newContainerOf returns a container that runs and claims to be of a pod.
func newContainerOf(p *corev1.Pod, name, node, id string) *v1alpha1.NodeContainer {
	c := newContainer(name, node)
	c.Spec.ContainerID = id
	c.Status.State = v1alpha1.StateRunning
	c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionObserved, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonHook, LastTransitionTime: metav1.Now()}}
	if p != nil {
		c.Spec.Pod = v1alpha1.ContainerPod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Container: "main"}
	}
	return c
}

// stop says that a container ended now.
func stop(t *testing.T, c client.Client, name string) {
	t.Helper()
	now := time.Now().UTC().Format(metav1.RFC3339Micro)
	patchStatus(t, c, &v1alpha1.NodeContainer{ObjectMeta: metav1.ObjectMeta{Name: name}},
		fmt.Sprintf(`{"status":{"state":"Stopped","finishTime":%q}}`, now))
}

func patchStatus(t *testing.T, c client.Client, o client.Object, patch string) {
	t.Helper()
	if err := c.Status().Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatalf("status of %s: %v", o.GetName(), err)
	}
}

// has returns an error unless a container has the condition with the reason. No reason stands for no such condition.
func has(t *testing.T, c client.Client, name, kind, reason string) error {
	t.Helper()
	var object v1alpha1.NodeContainer
	if err := c.Get(t.Context(), client.ObjectKey{Name: name}, &object); err != nil {
		return err
	}
	got := meta.FindStatusCondition(object.Status.Conditions, kind)
	if got == nil {
		got = &metav1.Condition{}
	}
	if got.Reason != reason {
		return fmt.Errorf("%s is %q (%s), not %q", kind, got.Reason, got.Message, reason)
	}
	return nil
}

// names returns the names of all NodeContainers of a node.
func names(t *testing.T, c client.Client, node string) []string {
	t.Helper()
	var list v1alpha1.NodeContainerList
	if err := c.List(t.Context(), &list, client.MatchingFields{v1alpha1.FieldNodeName: node}); err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, object := range list.Items {
		all = append(all, object.Name)
	}
	return all
}

func agents(t *testing.T, c client.Client) []string {
	t.Helper()
	var list v1alpha1.NodeContainerAgentList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, object := range list.Items {
		all = append(all, object.Name)
	}
	return all
}

// beat has the agent of a node write its nth heartbeat, as it does: all that it knows. Only that the time is another
// one than before counts.
func beat(t *testing.T, c client.Client, node string, n int) {
	t.Helper()
	at := metav1.NewTime(time.Unix(int64(n), 0))
	ready := applymeta.Condition().WithType(v1alpha1.ConditionReady).WithStatus(metav1.ConditionTrue).
		WithReason(v1alpha1.ReasonListed).WithMessage("").WithLastTransitionTime(at)
	status := apply.NodeContainerAgent(node).WithStatus(apply.NodeContainerAgentStatus().WithHeartbeatTime(at).WithConditions(ready))
	if err := c.Status().Apply(t.Context(), status, client.FieldOwner("containerhook-agent"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// stays fails where is returns an error within the time.
func stays(t *testing.T, during time.Duration, is func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(during); time.Now().Before(end); <-tick.C {
		if err := is(); err != nil {
			t.Fatal(err)
		}
	}
}
