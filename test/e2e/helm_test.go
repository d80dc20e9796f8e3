package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

const (
	chart       = "../../charts/containerhook"
	releaseName = "containerhook"
)

// helm runs one of both Helms, with no configuration or plugin of whoever runs this.
func helm(ctx context.Context, version string, args ...string) (string, error) {
	home, err := os.MkdirTemp("", "containerhook-helm-")
	if err != nil {
		return "", fmt.Errorf("make a home for helm: %w", err)
	}
	defer os.RemoveAll(home)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join("../../bin/chart", version), args...)
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_CACHE_HOME="+home)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("run %s %s: %w: %s", version, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func mustHelm(t *testing.T, version string, args ...string) string {
	t.Helper()
	out, err := helm(t.Context(), version, append(args, "--namespace", system)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// installed is how the chart is installed in our cluster: its values, for another install to have the same.
func installed(t *testing.T) string {
	t.Helper()
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(mustHelm(t, "helm4", "get", "values", releaseName, "--output", "yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	return values
}

func TestTheChartLivesAWholeLifeWithBothHelms(t *testing.T) {
	needsOurNodes(t)
	nodes := someNodes(t, 2)
	values := installed(t)
	wait := []string{"--wait", "--timeout", "3m"}
	install := append([]string{"install", releaseName, chart, "--values", values}, wait...)
	pod, _ := startPod(t, nodes[0]) // it lives through all of it
	mustHelm(t, "helm4", append([]string{"uninstall", releaseName}, wait...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		if _, err := helm(ctx, "helm4", append([]string{"upgrade", "--install", releaseName, chart, "--values", values,
			"--namespace", system}, wait...)...); err != nil {
			t.Error(err)
		}
	})
	for _, version := range []string{"helm3", "helm4"} {
		t.Run(version, func(t *testing.T) {
			t.Cleanup(func() { // where it fails half-way
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				if _, err := helm(ctx, version, "uninstall", releaseName, "--ignore-not-found", "--wait", "--namespace", system); err != nil {
					t.Error(err)
				}
			})
			mustHelm(t, version, install...)
			mustHelm(t, version, "test", releaseName, "--timeout", "2m")
			agree(t)

			other, _ := startPod(t, nodes[0])
			if err := sandboxesAre(t.Context(), other, false); err != nil {
				t.Error(err)
			}

			mustHelm(t, version, append([]string{"upgrade", releaseName, chart, "--reuse-values", "--set", "agent.sandboxes=true"}, wait...)...)
			eventually(t, time.Minute, func(ctx context.Context) error { return sandboxesAre(ctx, pod, true) })
			mustHelm(t, version, append([]string{"rollback", releaseName, "1"}, wait...)...)
			for _, node := range nodes {
				runningAgent(t, node, nil)
			}
			agree(t)
			mustHelm(t, version, append([]string{"uninstall", releaseName}, wait...)...)
			eventually(t, time.Minute, nothingButDefinitionsIsLeft)
		})
	}
}

// sandboxesAre says where a pod's sandbox is told of, or is not, against what is wanted.
func sandboxesAre(ctx context.Context, pod *corev1.Pod, want bool) error {
	objects, err := objectsOf(ctx, pod)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.Spec.Type == v1alpha1.TypeSandbox {
			if want {
				return nil
			}
			return fmt.Errorf("pod %s has a sandbox %s", pod.Name, o.Name)
		}
	}
	if want {
		return fmt.Errorf("pod %s has %d objects, none of them a sandbox", pod.Name, len(objects))
	}
	return nil
}

func TestANamespaceThatEnforcesRestrictedSaysWhatToLabel(t *testing.T) {
	restricted := create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "containerhook-e2e-restricted-",
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}})
	for _, version := range []string{"helm3", "helm4"} {
		_, err := helm(t.Context(), version, "install", "second", chart, "--namespace", restricted.Name, "--set", "crds.enabled=false")
		want := "kubectl label --overwrite namespace " + restricted.Name + " pod-security.kubernetes.io/enforce=privileged"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", version, err, want)
		}
	}
}

// nothingButDefinitionsIsLeft says which objects with the release's label there still are, beside the definitions.
func nothingButDefinitionsIsLeft(ctx context.Context) error {
	kinds, err := kubectl(ctx, "api-resources", "--verbs=list", "--output=name")
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(strings.Fields(kinds), func(kind string) bool {
		return strings.HasSuffix(kind, ".metrics.k8s.io") || kind == "events" || kind == "events.events.k8s.io"
	})
	out, err := kubectl(ctx, "get", strings.Join(names, ","), "--all-namespaces", "--output=name",
		"--selector=app.kubernetes.io/instance="+releaseName)
	if err != nil {
		return err
	}
	var left []string
	for name := range strings.Lines(out) {
		if name = strings.TrimSpace(name); !strings.HasPrefix(name, "customresourcedefinition.apiextensions.k8s.io/") {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("an uninstall leaves %v", left)
	}
	return nil
}
