package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// KubectlCommand prepares kubectl to run as the administrator.
func (c *ControlPlane) KubectlCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := find("kubectl")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.Dir) // it keeps a cache in its home
	return cmd, nil
}

// Kubectl runs kubectl as the administrator and returns what it prints. Its error has what kubectl says of it.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	cmd, err := c.KubectlCommand(ctx, args...)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run kubectl %q: %w: %s", args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
