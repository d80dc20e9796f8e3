// Package chart tests charts/containerhook without a cluster: that both Helms like it, that what they render is what
// Kubernetes takes, and that its alerts ask for metrics that there are. Its tools are in bin/chart: make test-chart
// builds them.
package chart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	chartDir    = "../../charts/containerhook"
	kubeVersion = "1.37.0"
)

// helms are both major versions that people have.
var helms = []string{"helm3", "helm4"}

// valueSets are what the chart is rendered with where a test is about every object: what is off by default is on.
var valueSets = map[string]string{
	"default": "",
	"everything": `
agent: {rootless: true, sandboxes: true, runtimePaths: [/opt/bin/runc], stateRoots: [/run/other], annotations: [a/b]}
monitoring:
  podMonitor: {enabled: true, labels: {release: x}}
  serviceMonitor: {enabled: true}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true}
flowSchema: {enabled: true}
imagePullSecrets: [{name: x}]
commonLabels: {team: x}
`,
	"as little as can be": `
crds: {enabled: false}
admissionPolicy: {enabled: false}
compactObjects: {enabled: false}
networkPolicy: {enabled: false}
rbac: {viewers: false}
controller: {replicas: 1, podDisruptionBudget: {enabled: false}, tolerations: [{operator: Exists}]}
agent: {seLinuxType: "", tolerations: []}
`,
}

// tool runs a tool of bin/chart and returns what it printed, standard error last.
func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path, err := filepath.Abs(filepath.Join("../../bin/chart", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; make test-chart builds it", err)
	}
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	// No cluster, no configuration, no plugin of whoever runs this.
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String() + errs.String(), err
}

// file writes content where tools can read it.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// render makes the objects of a release named containerhook in the namespace hooks.
func render(t *testing.T, helm, values string) (string, error) {
	t.Helper()
	return tool(t, helm, "template", "containerhook", chartDir, "--namespace", "hooks", "--kube-version", kubeVersion,
		"--values", file(t, "values.yaml", values))
}
