package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strings"
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

// Table reads what kubectl get prints: a column begins where its header does.
func Table(out string) []map[string]string {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	columns := regexp.MustCompile(`\S+ *`).FindAllStringIndex(lines[0], -1)
	columns[len(columns)-1][1] = math.MaxInt // its cells may be longer
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for _, c := range columns {
			begin, end := min(c[0], len(line)), min(c[1], len(line))
			header := lines[0][c[0]:min(c[1], len(lines[0]))]
			row[strings.TrimSpace(header)] = strings.TrimSpace(line[begin:end])
		}
		rows = append(rows, row)
	}
	return rows
}
