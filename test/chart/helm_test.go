package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestBothHelmsFindNothingToSay(t *testing.T) {
	for _, helm := range helms {
		for name, values := range valueSets {
			if out, err := tool(t, helm, "lint", "--strict", chartDir, "--kube-version", kubeVersion,
				"--values", file(t, "values.yaml", values)); err != nil || strings.Contains(out, "WARNING") {
				t.Errorf("%s, %s: %v\n%s", helm, name, err, out)
			}
		}
	}
}

func TestBothHelmsRenderTheSame(t *testing.T) {
	for name, values := range valueSets {
		three, err := render(t, "helm3", values)
		if err != nil {
			t.Fatal(err)
		}
		four, err := render(t, "helm4", values)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(documents(t, three), documents(t, four)); diff != "" {
			t.Errorf("%s, -helm3 +helm4:\n%s", name, diff)
		}
	}
}

// documents reads a stream of YAML by kind and name.
func documents(t *testing.T, stream string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for document := range strings.SplitSeq("\n"+stream, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if object == nil {
			continue
		}
		metadata, _ := object["metadata"].(map[string]any)
		kind, _ := object["kind"].(string)
		name, _ := metadata["name"].(string)
		if kind == "" || name == "" || found[kind+" "+name] != nil {
			t.Fatalf("no kind or no name, or twice the same:\n%s", document)
		}
		found[kind+" "+name] = object
	}
	return found
}

// The suites of charts/containerhook/tests, each a test here so that it counts as one.
func TestSuites(t *testing.T) {
	suites, err := filepath.Glob(filepath.Join(chartDir, "tests/*_test.yaml"))
	if err != nil || len(suites) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	for _, suite := range suites {
		t.Run(strings.TrimSuffix(filepath.Base(suite), "_test.yaml"), func(t *testing.T) {
			if out, err := tool(t, "helm-unittest", "--strict", "--file", "tests/"+filepath.Base(suite), chartDir); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestValuesThatAreNotKnownAreRefused(t *testing.T) {
	for _, values := range []string{
		"agnet: {}", "agent: {deadlin: 1s}", "agent: {deadline: soon}", "agent: {extraRuntimeDirs: [opt]}",
		"agent: {extraRuntimeDirs: [/]}", "crds: {keep: yes please}", "image: {digest: 'md5:0'}", "distribution: windows",
		"runtimeDirs: {default: []}", "networkPolicy: {apiServerPorts: [0]}", "controller: {replicas: 6}",
	} {
		for _, helm := range helms {
			if out, err := render(t, helm, values); err == nil {
				t.Errorf("%s took %s:\n%.300s", helm, values, out)
			}
		}
	}
}

// The image's tag and the chart are of one version; a release's tag says which.
func TestTheChartsVersionIsTheImages(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(raw, &chart); err != nil {
		t.Fatal(err)
	}
	if chart.Version == "" || chart.Version != chart.AppVersion {
		t.Errorf("version %q, appVersion %q", chart.Version, chart.AppVersion)
	}
}
