package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

// fate is what the API tells of a container's life.
type fate struct {
	State  v1alpha1.ContainerState
	Reason v1alpha1.StopReason
	Exit   int32 // -1: not known
}

var running = fate{State: v1alpha1.StateRunning, Exit: -1}

// ended is the fate of a container that ended with a code.
func ended(code int32) fate {
	reason := v1alpha1.StopError
	if code == 0 {
		reason = v1alpha1.StopCompleted
	}
	return fate{v1alpha1.StateStopped, reason, code}
}

func fateOf(c *v1alpha1.NodeContainer) fate {
	f := fate{c.Status.State, c.Status.Reason, -1}
	if c.Status.ExitCode != nil {
		f.Exit = *c.Status.ExitCode
	}
	return f
}

// administrator returns a client that may do everything.
func administrator(plane *controlplane.ControlPlane) (client.Client, error) {
	return newClient(plane.Config)
}

func newClient(config *rest.Config) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// objects returns the node's objects by the ID of their container. Two of one ID are an error.
func (n *node) objects() (map[string]*v1alpha1.NodeContainer, error) {
	c, err := administrator(n.plane)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), 5*time.Second)
	defer cancel()
	var list v1alpha1.NodeContainerList
	if err := c.List(ctx, &list, client.MatchingFields{v1alpha1.FieldNodeName: n.name}); err != nil {
		return nil, err
	}
	found := map[string]*v1alpha1.NodeContainer{}
	for i := range list.Items {
		c := &list.Items[i]
		if other := found[c.Spec.ContainerID]; other != nil {
			return nil, fmt.Errorf("container %s is %s and %s", c.Spec.ContainerID, other.Name, c.Name)
		}
		found[c.Spec.ContainerID] = c
	}
	return found, nil
}

// told waits until the API tells of exactly these containers of the node, and as this. It returns how long that took.
func (n *node) told(limit time.Duration, want map[string]fate) time.Duration {
	n.t.Helper()
	return eventually(n.t, limit, "the API has what the node has (-want +got)", func() error {
		objects, err := n.objects()
		if err != nil {
			return err
		}
		got := map[string]fate{}
		for id, c := range objects {
			got[id] = fateOf(c)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// object waits until a container is told as f, and returns its object.
func (n *node) object(id string, f fate) *v1alpha1.NodeContainer {
	n.t.Helper()
	var c *v1alpha1.NodeContainer
	eventually(n.t, 30*time.Second, "container "+id, func() error {
		objects, err := n.objects()
		if err != nil {
			return err
		}
		if c = objects[id]; c == nil {
			return errors.New("it is not told of")
		}
		if got := fateOf(c); got != f {
			return fmt.Errorf("it is told as %+v, not %+v", got, f)
		}
		return nil
	})
	return c
}

// writesOf is how often an object was written, as etcd counts.
func (n *node) writesOf(t *testing.T, name string) int64 {
	t.Helper()
	entries, err := n.plane.AllStored(t.Context(), "/registry/containerhook.io/nodecontainers/"+name)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries of %s: %v", len(entries), name, err)
	}
	return entries[0].Version
}
