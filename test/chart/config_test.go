package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// config/ has the agent and the controller once more, for those who use kustomize. Whoever changes one pod is told here
// of the other: all of it but names, arguments and the image is the same.
func TestConfigHasTheSamePodsAsTheChart(t *testing.T) {
	chart := podSpecs(t, renderDefault(t))
	config := podSpecs(t, readConfig(t, "agent/daemonset.yaml")+"\n---\n"+readConfig(t, "controller/deployment.yaml"))
	if len(chart) != 2 || len(config) != 2 {
		t.Fatalf("%d pods in the chart, %d in config", len(chart), len(config))
	}
	if diff := cmp.Diff(chart, config); diff != "" {
		t.Errorf("-chart +config:\n%s", diff)
	}
}

func TestAPodThatIsNotTheSameIsTold(t *testing.T) {
	chart := renderDefault(t)
	for field, other := range map[string]string{"SYS_PTRACE": "SYS_BOOT", "path: /run,": "path: /,", "maxSkew: 1": "maxSkew: 2"} {
		changed := strings.ReplaceAll(chart, field, other)
		if changed == chart || cmp.Equal(podSpecs(t, changed), podSpecs(t, chart)) {
			t.Errorf("%q was not told from %q", other, field)
		}
	}
}

// renderDefault renders the chart under the names that config/ has.
func renderDefault(t *testing.T) string {
	t.Helper()
	out, err := tool(t, "helm4", "template", "containerhook", chartDir, "--namespace", "containerhook-system", "--kube-version", kubeVersion)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readConfig(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../config", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// podSpecs are what pods are made of in a stream of YAML, by the name of their DaemonSet or Deployment, without what
// values say and what only one of the two names.
func podSpecs(t *testing.T, stream string) map[string]any {
	t.Helper()
	stream = strings.ReplaceAll(stream, "runtimes-0", "usr")
	found := map[string]any{}
	for name, object := range documents(t, stream) {
		kind, _, _ := strings.Cut(name, " ")
		if kind != "DaemonSet" && kind != "Deployment" {
			continue
		}
		pod := object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		container := pod["containers"].([]any)[0].(map[string]any)
		for _, key := range []string{"args", "image", "imagePullPolicy"} {
			delete(container, key)
		}
		for _, spread := range listOf(pod["topologySpreadConstraints"]) {
			delete(spread.(map[string]any), "labelSelector") // the chart's has the release's name
		}
		found[name] = pod
	}
	return found
}

func listOf(v any) []any {
	list, _ := v.([]any)
	return list
}
