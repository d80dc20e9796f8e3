package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// setByValues are the arguments that the chart makes of values and config/ leaves out: there the program's own default
// holds, which TestTheValuesOfTheChartAreTheDefaults of each program compares. All other arguments are the same.
var setByValues = map[string][]string{
	"DaemonSet containerhook-agent": {"--deadline=200ms", "--list-interval=10m", "--max-containers=2000", "--verbosity=0"},
	"Deployment containerhook-controller": {"--stopped-ttl=5m", "--unmatched-stopped-ttl=1h", "--keep-stopped-per-name=10",
		"--max-objects=100000", "--node-gone-after=90s", "--agent-lost-after=5m", "--mass-outage-percent=30", "--verbosity=0"},
}

// config/ has the agent and the controller once more, for those who use kustomize: a change of one pod that the other lacks
// fails here. All of it but names, the image and the arguments of setByValues is the same.
func TestConfigHasTheSamePodsAsTheChart(t *testing.T) {
	chart, missing := withoutDefaults(podSpecs(t, renderDefault(t)))
	config := podSpecs(t, readConfig(t, "agent/daemonset.yaml")+"\n---\n"+readConfig(t, "controller/deployment.yaml"))
	if len(chart) != 2 || len(config) != 2 {
		t.Fatalf("%d pods in the chart, %d in config", len(chart), len(config))
	}
	if len(missing) > 0 {
		t.Errorf("the chart no longer sets %q", missing)
	}
	if diff := cmp.Diff(chart, config); diff != "" {
		t.Errorf("-chart +config:\n%s", diff)
	}
}

func TestADifferenceBetweenPodsIsFound(t *testing.T) {
	chart := renderDefault(t)
	want, _ := withoutDefaults(podSpecs(t, chart))
	for field, other := range map[string]string{
		"SYS_PTRACE": "SYS_BOOT", "path: /run,": "path: /,", "maxSkew: 1": "maxSkew: 2", "command: [/agent]": "command: [/controller]",
		"- --host-root=/host": "- --host-root=/", "- --metrics-bind-address=:8443": "- --metrics-bind-address=0",
		"- --deadline=200ms": "- --deadline=100ms", "- --verbosity=0": "- --verbosity=0\n            - --rootless",
		"- --max-objects=100000": "- --max-objects=10",
	} {
		changed := strings.ReplaceAll(chart, field, other)
		got, _ := withoutDefaults(podSpecs(t, changed))
		if changed == chart || cmp.Equal(got, want) {
			t.Errorf("with %q the pods are the same as with %q", other, field)
		}
	}
}

// withoutDefaults takes the arguments of setByValues out of pods, and returns those that were not there.
func withoutDefaults(pods map[string]any) (_ map[string]any, missing []string) {
	for name, pod := range pods {
		container := pod.(map[string]any)["containers"].([]any)[0].(map[string]any)
		args := listOf(container["args"])
		for _, arg := range setByValues[name] {
			i := slices.Index(args, any(arg))
			if i < 0 {
				missing = append(missing, arg)
				continue
			}
			args = slices.Delete(args, i, i+1)
		}
		container["args"] = args
	}
	return pods, missing
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

// podSpecs are what pods are made of in a stream of YAML, by the name of their DaemonSet or Deployment, without the image
// and what only one of the two names.
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
		for _, key := range []string{"image", "imagePullPolicy"} {
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
