package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// What a thief tries is tried only: nothing that is allowed is done.
var dry = client.DryRunAll

const lie = `{"status": {"state": "Stopped"}}`

func TestAStolenTokenOfAnAgentWritesNothingAboutAnotherNode(t *testing.T) {
	beside(t)
	nodes := someNodes(t, 2)
	mine, other := nodes[0], nodes[1]
	thief := stealFrom(t, mine)
	own, others := anObjectOn(t, mine), anObjectOn(t, other)
	for name, try := range map[string]func(context.Context) error{
		"create its object":            func(ctx context.Context) error { return thief.Create(ctx, copyOf(others, others.Name, other), dry) },
		"create it by a name of mine":  func(ctx context.Context) error { return thief.Create(ctx, copyOf(own, own.Name, other), dry) },
		"create mine by a name of its": func(ctx context.Context) error { return thief.Create(ctx, copyOf(own, others.Name, mine), dry) },
		"create its agent":             func(ctx context.Context) error { return thief.Create(ctx, agentObject(other), dry) },
		"change its object's status":   func(ctx context.Context) error { return thief.Status().Patch(ctx, others.DeepCopy(), merge(lie), dry) },
		"label its object": func(ctx context.Context) error {
			return thief.Patch(ctx, others.DeepCopy(), merge(`{"metadata": {"labels": {"a": "b"}}}`), dry)
		},
		"speak for its agent": func(ctx context.Context) error {
			return thief.Status().Patch(ctx, agentObject(other), merge(`{"status": {"live": 0}}`), dry)
		},
		"move my object to it": func(ctx context.Context) error {
			return thief.Patch(ctx, own.DeepCopy(), merge(fmt.Sprintf(`{"spec": {"nodeName": %q}}`, other)), dry)
		},
		"have it own my object": func(ctx context.Context) error { return thief.Patch(ctx, own.DeepCopy(), ownedBy(t, other), dry) },
		"keep my object for ever": func(ctx context.Context) error {
			return thief.Patch(ctx, own.DeepCopy(), merge(`{"metadata": {"finalizers": ["a/b"]}}`), dry)
		},
		"change what is asked of me": func(ctx context.Context) error {
			return thief.Patch(ctx, agentObject(mine), merge(`{"spec": {"suspendCreates": true}}`), dry)
		},
		"delete its object": func(ctx context.Context) error { return thief.Delete(ctx, others.DeepCopy(), dry) },
		"delete mine":       func(ctx context.Context) error { return thief.Delete(ctx, own.DeepCopy(), dry) },
		"delete all":        func(ctx context.Context) error { return thief.DeleteAllOf(ctx, &v1alpha1.NodeContainer{}, dry) },
		"read its object": func(ctx context.Context) error {
			return thief.Get(ctx, client.ObjectKeyFromObject(others), others.DeepCopy())
		},
		"list objects": func(ctx context.Context) error { return thief.List(ctx, &v1alpha1.NodeContainerList{}) },
		"list agents":  func(ctx context.Context) error { return thief.List(ctx, &v1alpha1.NodeContainerAgentList{}) },
		"list pods":    func(ctx context.Context) error { return thief.List(ctx, &corev1.PodList{}) },
		"list secrets": func(ctx context.Context) error { return thief.List(ctx, &corev1.SecretList{}) },
	} {
		if err := try(t.Context()); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) { // spec is immutable for all
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStolenTokenOfAnAgentCanLieAboutItsOwnNode(t *testing.T) {
	beside(t)
	mine := someNodes(t, 1)[0]
	thief := stealFrom(t, mine)
	own := anObjectOn(t, mine)
	for name, try := range map[string]func(context.Context) error{
		"create an object": func(ctx context.Context) error {
			return thief.Create(ctx, copyOf(own, own.Name[:len(own.Name)-3]+"aaa", mine), dry)
		},
		"change an object's status": func(ctx context.Context) error { return thief.Status().Patch(ctx, own.DeepCopy(), merge(lie), dry) },
		"speak for its agent": func(ctx context.Context) error {
			return thief.Status().Patch(ctx, agentObject(mine), merge(`{"status": {"live": 0}}`), dry)
		},
	} {
		if err := try(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStolenTokenOfAnAgentEndsWithItsPod(t *testing.T) {
	mine := alone(t, 0)
	thief := stealFrom(t, mine)
	own := anObjectOn(t, mine)
	agent, err := agentOn(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(t.Context(), agent); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func(ctx context.Context) error { // the API server remembers an answer for a few seconds
		if err := thief.Status().Patch(ctx, own.DeepCopy(), merge(lie), dry); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("not yet: %w", err)
		}
		return nil
	})
	runningAgent(t, mine, agent)
	agree(t, mine)
}

// stealFrom makes a client of what a pod on a node finds in the kubelet's directory: the token of the node's agent.
func stealFrom(t *testing.T, node string) client.Client {
	t.Helper()
	agent, err := agentOn(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	pod := podOf("thief", node, fmt.Sprintf("cat /pods/%s/volumes/kubernetes.io~projected/*/token >/dev/termination-log", agent.UID))
	pod.Spec.Volumes = []corev1.Volume{{Name: "pods", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet/pods"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "pods", MountPath: "/pods", ReadOnly: true}}
	create(t, pod)
	eventually(t, time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodSucceeded) })
	stolen := rest.AnonymousClientConfig(config)
	stolen.BearerToken = pod.Status.ContainerStatuses[0].State.Terminated.Message
	thief, err := client.New(stolen, client.Options{Scheme: api.Scheme(), Mapper: api.RESTMapper()})
	if err != nil {
		t.Fatal(err)
	}
	return thief
}

// anObjectOn is a NodeContainer of a pod that runs on a node.
func anObjectOn(t *testing.T, node string) (o *v1alpha1.NodeContainer) {
	t.Helper()
	pod, _ := startPod(t, node)
	eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
		o, err = objectOf(ctx, idOf(pod.Status.ContainerStatuses[0].ContainerID))
		return err
	})
	return o
}

// copyOf is an object as an agent would make it.
func copyOf(o *v1alpha1.NodeContainer, name, node string) *v1alpha1.NodeContainer {
	c := &v1alpha1.NodeContainer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: *o.Spec.DeepCopy()}
	c.Spec.NodeName = node
	return c
}

func agentObject(node string) *v1alpha1.NodeContainerAgent {
	return &v1alpha1.NodeContainerAgent{ObjectMeta: metav1.ObjectMeta{Name: node}}
}

func merge(patch string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(patch)) }

// ownedBy has a node be an object's owner.
func ownedBy(t *testing.T, name string) client.Patch {
	t.Helper()
	node := &corev1.Node{}
	if err := api.Get(t.Context(), client.ObjectKey{Name: name}, node); err != nil {
		t.Fatal(err)
	}
	return merge(fmt.Sprintf(`{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": %q, "uid": %q}]}}`, name, node.UID))
}
