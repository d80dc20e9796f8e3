package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Kubectl runs kubectl as the administrator and returns what it prints. Its error has what kubectl says of it.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	path, err := find("kubectl")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.Dir) // it keeps a cache in its home
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run kubectl %q: %w: %s", args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
