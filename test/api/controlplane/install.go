package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
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

// repository returns a path in the repository, wherever the test runs.
func repository(elements ...string) string {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "../../..")
	return filepath.Join(append([]string{root}, elements...)...)
}
