package chart

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// notKubernetes are kinds of Prometheus Operator, whose schemas are not Kubernetes' own.
const notKubernetes = "PodMonitor,ServiceMonitor,PrometheusRule"

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

func TestKubernetesDoesNotTakeAnUnknownField(t *testing.T) {
	objects, err := render(t, "helm4", "")
	if err != nil {
		t.Fatal(err)
	}
	schemas := schemaDir(t)
	for field, other := range map[string]string{"hostPID:": "hostPIDs:", "maxUnavailable:": "maxUnavailables:",
		"readOnlyRootFilesystem:": "readOnlyRootFileSystem:", "periodSeconds: 10": "periodSeconds: ten"} {
		broken := strings.ReplaceAll(objects, field, other)
		if out, err := conform(t, schemas, broken); err == nil || broken == objects {
			t.Errorf("%s was taken:\n%s", other, out)
		}
	}
}

func conform(t *testing.T, schemas, objects string) (string, error) {
	t.Helper()
	return tool(t, "kubeconform", "-strict", "-summary", "-skip", notKubernetes, "-schema-location",
		filepath.Join(schemas, "{{.ResourceKind}}_{{.Group}}_{{.ResourceAPIVersion}}.json"), file(t, "objects.yaml", objects))
}

// schemaDir writes a JSON schema for every kind of the Kubernetes that test/kubernetes pins, made of the OpenAPI document
// that is among its sources: the usual collections of such schemas are on a server.
func schemaDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-C", "../kubernetes", "-json", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(module.Dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, definition := range document.Definitions {
		tighten(definition)
		for _, kind := range kindsOf(t, definition) {
			write(t, filepath.Join(dir, kind), map[string]string{"$ref": "definitions.json#/definitions/" + name})
		}
	}
	document.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] = []string{"string", "integer"}
	document.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] = []string{"string", "number"}
	write(t, filepath.Join(dir, "definitions.json"), document)
	return dir
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
	return []string{strings.ToLower(k.Kind) + "_" + k.Group + "_" + k.Version + ".json"}
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
