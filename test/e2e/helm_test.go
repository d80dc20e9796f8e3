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

func TestANamespaceThatEnforcesRestrictedSaysWhatToLabel(t *testing.T) {
	beside(t)
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
