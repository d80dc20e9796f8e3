package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

const (
	fieldManager = "containerhook-agent"
	// answerWithin is how long one answer of the API is waited for.
	answerWithin = 10 * time.Second
)

// The names of our kinds in a URL.
const (
	nodeContainers      = "nodecontainers"
	nodeContainerAgents = "nodecontaineragents"
)

// api is the part of the Kubernetes API that an agent uses: create and patch. Its statuses are written by server-side
// apply: the agent says all that it knows, and what others say beside that, the controller's conditions, stays.
type api struct {
	client   rest.Interface
	node     string
	owner    []metav1.OwnerReference
	writes   *prometheus.CounterVec // by resource, verb and code
	answered func()                 // after each success
}

func newAPI(o *WriterOptions, answered func()) (*api, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register the API: %w", err)
	}
	config := rest.CopyConfig(o.Config)
	config.APIPath, config.GroupVersion = "/apis", &v1alpha1.GroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	owner, err := ownerFrom(config, o.NodeName)
	if err != nil {
		return nil, err
	}
	a := &api{client: client, node: o.NodeName, owner: owner, answered: answered, writes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "containerhook_api_writes_total", Help: "Writes to the API, by resource, verb and status code (0: no answer)."},
		[]string{"resource", "verb", "code"})}
	o.Metrics.MustRegister(a.writes)
	return a, nil
}

// create makes the object, without its status, which the API server would leave out.
func (a *api) create(ctx context.Context, c *v1alpha1.NodeContainer) error {
	made := v1alpha1.NodeContainer{TypeMeta: c.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: c.Name, OwnerReferences: a.owner}, Spec: c.Spec}
	request := a.client.Post().Resource(nodeContainers).Param("fieldManager", fieldManager).Body(&made)
	return a.do(ctx, request, "create", nodeContainers, c.Name, &v1alpha1.NodeContainer{})
}

// applyStatus writes all of the status that is the agent's.
func (a *api) applyStatus(ctx context.Context, c *v1alpha1.NodeContainer) error {
	return a.apply(ctx, nodeContainers, &v1alpha1.NodeContainer{TypeMeta: c.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: c.Name}, Status: c.Status}, c.Name, &v1alpha1.NodeContainer{})
}

// read returns the object as the API has it, by a patch that changes nothing: the agent has no right to get.
func (a *api) read(ctx context.Context, c *v1alpha1.NodeContainer) (*v1alpha1.NodeContainer, error) {
	stored := &v1alpha1.NodeContainer{}
	request := a.client.Patch(types.MergePatchType).Resource(nodeContainers).Name(c.Name).SubResource("status").Body([]byte("{}"))
	return stored, a.do(ctx, request, "patch", nodeContainers, c.Name, stored)
}

// applyAgent writes how the agent does, and returns its object, which is made where there is none, and whether it was.
func (a *api) applyAgent(ctx context.Context, status v1alpha1.NodeContainerAgentStatus) (answer *v1alpha1.NodeContainerAgent, made bool, err error) {
	object := v1alpha1.NodeContainerAgent{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.NodeContainerAgentKind},
		ObjectMeta: metav1.ObjectMeta{Name: a.node}, Status: status}
	answer = &v1alpha1.NodeContainerAgent{}
	err = a.apply(ctx, nodeContainerAgents, &object, a.node, answer)
	if !apierrors.IsNotFound(err) {
		return answer, false, err
	}

	first := object
	first.Status, first.OwnerReferences = v1alpha1.NodeContainerAgentStatus{}, a.owner
	request := a.client.Post().Resource(nodeContainerAgents).Param("fieldManager", fieldManager).Body(&first)
	if err := a.do(ctx, request, "create", nodeContainerAgents, a.node, answer); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, false, err
	}
	return answer, true, a.apply(ctx, nodeContainerAgents, &object, a.node, answer)
}

func (a *api) apply(ctx context.Context, resource string, object any, name string, into runtime.Object) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode %q: %w", name, err)
	}
	request := a.client.Patch(types.ApplyPatchType).Resource(resource).Name(name).SubResource("status").
		Param("fieldManager", fieldManager).Param("force", "true").Body(body)
	return a.do(ctx, request, "patch", resource, name, into)
}

// do sends one request, once: the Writer knows better than a client when to try again.
func (a *api) do(ctx context.Context, request *rest.Request, verb, resource, name string, into runtime.Object) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	code := 0
	err := request.MaxRetries(0).Do(ctx).StatusCode(&code).Into(into)
	a.writes.WithLabelValues(resource, verb, strconv.Itoa(code)).Inc()
	if err != nil {
		return fmt.Errorf("%s %s %q: %w", verb, resource, name, err)
	}
	a.answered()
	return nil
}
