package api

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

// newNode makes a Node for the time of the test. Nothing runs on it.
func newNode(t *testing.T, plane *controlplane.ControlPlane, name string) *corev1.Node {
	t.Helper()
	node, err := plane.Node(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := newClient(t, plane.Config).Delete(context.WithoutCancel(t.Context()), node)
		if client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return node
}

func newAgent(node string) *v1alpha1.NodeContainerAgent {
	a := &v1alpha1.NodeContainerAgent{}
	a.Name = node
	return a
}

// eventually fails where is still returns an error after the time.
func eventually(t testing.TB, within time.Duration, is func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, within, true, func(context.Context) (bool, error) {
		last = is()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("after %v: %v", within, last)
	}
}
