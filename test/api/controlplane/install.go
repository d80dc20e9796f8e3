package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Install applies parts of config/, such as "crd", as a user would with kubectl, and waits until the API server knows the
// kinds. Policies take effect some time later.
func (c *ControlPlane) Install(ctx context.Context, parts ...string) error {
	for _, part := range parts {
		if _, err := c.Kubectl(ctx, "apply", "--server-side", "-k", repository("config", part)); err != nil {
			return fmt.Errorf("install %q: %w", part, err)
		}
	}
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=1m"); err != nil {
		return fmt.Errorf("wait for CRDs: %w", err)
	}
	return nil
}

// CompactInForce returns an error until the policy of config/compact takes out managedFields: the API server compiles a
// policy some time after it is there. Nothing is made. Agent is a client of a node's agent.
func CompactInForce(ctx context.Context, agent client.Client, node string) error {
	c := &v1alpha1.NodeContainer{
		ObjectMeta: metav1.ObjectMeta{Name: node + "-0123456789ab-bcdefgh234"},
		Spec:       v1alpha1.NodeContainerSpec{NodeName: node, BootID: "b", ContainerID: "c", Type: v1alpha1.TypeContainer},
	}
	if err := agent.Create(ctx, c, client.DryRunAll); err != nil {
		return fmt.Errorf("try the policy: %w", err)
	}
	if len(c.ManagedFields) > 0 {
		return errors.New("the policy is not in force: managedFields are kept")
	}
	return nil
}

// repository returns a path in the repository, wherever the test runs.
func repository(elements ...string) string {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "../../..")
	return filepath.Join(append([]string{root}, elements...)...)
}
