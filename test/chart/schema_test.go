package chart

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestKubernetesTakesWhatIsRendered(t *testing.T) {
	schemas := schemaDir(t)
	for name, values := range valueSets {
		objects, err := render(t, "helm4", values)
		if err != nil {
			t.Fatal(err)
		}
		out, err := conform(t, schemas, objects)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		t.Logf("%s: %s", name, strings.TrimSpace(out))
	}
}

// Each kind of object that has fields of its own is broken in one place.
func TestKubernetesAndPrometheusOperatorDoNotTakeAnUnknownField(t *testing.T) {
	objects, err := render(t, "helm4", valueSets["everything"])
	if err != nil {
		t.Fatal(err)
	}
	schemas := schemaDir(t)
	for _, c := range []struct{ kind, field, other string }{
		{"DaemonSet", "hostPID:", "hostPIDs:"},
		{"PodDisruptionBudget", "maxUnavailable:", "maxUnavailables:"},
		{"Deployment", "readOnlyRootFilesystem:", "readOnlyRootFileSystem:"},
		{"Deployment", "periodSeconds: 10", "periodSeconds: ten"},
		{"PodMonitor", "podMetricsEndpoints:", "endpoints:"},
		{"PodMonitor", "targetLabel: node", "target: node"},
		{"PodMonitor", "matchLabels:", "labels:"},
		{"PodMonitor", "interval: 30s", "interval: often"},
		{"ServiceMonitor", "endpoints:", "podMetricsEndpoints:"},
		{"ServiceMonitor", "insecureSkipVerify: true", "insecureSkipVerify: yes please"},
		{"ServiceMonitor", "bearerTokenFile:", "tokenFile:"},
		{"PrometheusRule", "alert:", "alerts:"},
		{"PrometheusRule", "expr:", "query:"},
		{"PrometheusRule", "severity: warning", "severity: 1"},
	} {
		sound := onlyKind(objects, c.kind)
		broken := strings.ReplaceAll(sound, c.field, c.other)
		if broken == sound {
			t.Errorf("no %s has %s", c.kind, c.field)
		}
		if out, err := conform(t, schemas, broken); err == nil || !strings.Contains(out, c.kind) {
			t.Errorf("%s with %s was taken: %v\n%s", c.kind, c.other, err, out)
		}
	}
}

// onlyKind returns the objects of one kind. TestKubernetesTakesWhatIsRendered shows that they are valid as rendered.
func onlyKind(stream, kind string) string {
	var some []string
	for d := range strings.SplitSeq(stream, "\n---\n") {
		if strings.Contains("\n"+d, "\nkind: "+kind+"\n") {
			some = append(some, d)
		}
	}
	return strings.Join(some, "\n---\n")
}

// conform validates each object. A kind without a schema fails.
func conform(t *testing.T, schemas, objects string) (string, error) {
	t.Helper()
	return tool(t, "kubeconform", "-strict", "-summary", "-schema-location",
		filepath.Join(schemas, "{{.ResourceKind}}_{{.Group}}_{{.ResourceAPIVersion}}.json"), file(t, "objects.yaml", objects))
}

// schemaDir writes a JSON schema for every kind of the Kubernetes that test/kubernetes pins, made of the OpenAPI document
// that is among its sources, and of the Prometheus Operator that operator/ pins, made of its CRDs: the usual collections of
// such schemas are on a server.
func schemaDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeKubernetes(t, dir)
	writeOperator(t, dir)
	return dir
}

// moduleDir returns where the module cache has a module, in the version that the go.mod in dir pins.
func moduleDir(t *testing.T, dir, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-C", dir, "-json", module).Output()
	if err != nil {
		t.Fatalf("download %s: %v: %s", module, err, out) // in out is why
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(out, &downloaded); err != nil {
		t.Fatal(err)
	}
	return downloaded.Dir
}

// writeOperator writes the schemas of the CRDs that the chart has objects of.
func writeOperator(t *testing.T, dir string) {
	t.Helper()
	crds := filepath.Join(moduleDir(t, "operator", "github.com/prometheus-operator/prometheus-operator"), "example/prometheus-operator-crd")
	for _, plural := range []string{"podmonitors", "servicemonitors", "prometheusrules"} {
		raw, err := os.ReadFile(filepath.Join(crds, "monitoring.coreos.com_"+plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		if err := yaml.Unmarshal(raw, &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			tightenAll(v.Schema.OpenAPIV3Schema)
			write(t, filepath.Join(dir, schemaFile(crd.Spec.Names.Kind, crd.Spec.Group, v.Name)), v.Schema.OpenAPIV3Schema)
		}
	}
}

// tightenAll has a schema and all within refuse what they do not name.
func tightenAll(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["type"] == "object" { // and no field that is called "properties"
			tighten(v)
		}
		for _, within := range v {
			tightenAll(within)
		}
	case []any:
		for _, within := range v {
			tightenAll(within)
		}
	}
}

func writeKubernetes(t *testing.T, dir string) {
	t.Helper()
	kubernetes := moduleDir(t, "../kubernetes", "k8s.io/kubernetes")
	raw, err := os.ReadFile(filepath.Join(kubernetes, "api/openapi-spec/swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	for name, definition := range document.Definitions {
		tighten(definition)
		for _, kind := range kindsOf(t, definition) {
			write(t, filepath.Join(dir, kind), map[string]string{"$ref": "definitions.json#/definitions/" + name})
		}
	}
	document.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] = []string{"string", "integer"}
	document.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] = []string{"string", "number"}
	write(t, filepath.Join(dir, "definitions.json"), document)
}

// tighten has a definition refuse what it does not name.
func tighten(definition map[string]any) {
	if _, known := definition["properties"]; known && definition["additionalProperties"] == nil {
		definition["additionalProperties"] = false
	}
}

// kindsOf returns the files that a definition is to be found in: none where it is only a part of others.
func kindsOf(t *testing.T, definition map[string]any) (files []string) {
	t.Helper()
	raw, err := json.Marshal(definition["x-kubernetes-group-version-kind"])
	if err != nil {
		t.Fatal(err)
	}
	var kinds []struct{ Group, Version, Kind string }
	if err := json.Unmarshal(raw, &kinds); err != nil {
		t.Fatal(err)
	}
	if len(kinds) != 1 { // DeleteOptions and the like are of every group
		return nil
	}
	k := kinds[0]
	if k.Group == "" { // kubeconform takes what is before the slash of an apiVersion, or all of it
		k.Group = k.Version
	}
	return []string{schemaFile(k.Kind, k.Group, k.Version)}
}

// schemaFile is the name by which kubeconform finds a kind.
func schemaFile(kind, group, version string) string {
	return strings.ToLower(kind) + "_" + group + "_" + version + ".json"
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
