package api

import (
	"maps"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// walkSchema calls f with each field of spec and status of a CRD that the API server has.
func walkSchema(t *testing.T, crd string, f func(path string, s map[string]any)) {
	t.Helper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{
		Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := newClient(t, plane.Config).Get(t.Context(), client.ObjectKey{Name: crd}, object); err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(object.Object, "spec", "versions")
	if err != nil || len(versions) != 1 {
		t.Fatalf("%d versions: %v", len(versions), err)
	}
	root, _, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		f(path, s)
		for _, below := range []string{"items", "additionalProperties"} {
			if s, ok := s[below].(map[string]any); ok {
				walk(path+"[]", s)
			}
		}
		properties, _ := s["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			walk(path+"."+name, properties[name].(map[string]any))
		}
	}
	walk("spec", root["spec"].(map[string]any))
	walk("status", root["status"].(map[string]any))
}

var crds = []string{"nodecontainers.containerhook.io", "nodecontaineragents.containerhook.io"}

func TestEveryFieldIsDescribed(t *testing.T) {
	for _, crd := range crds {
		n := 0
		walkSchema(t, crd, func(path string, s map[string]any) {
			n++
			if s["description"] == nil && path[len(path)-1] != ']' { // an item is described with its list
				t.Errorf("%s: %s has no description", crd, path)
			}
		})
		t.Logf("%s: %d fields", crd, n)
	}
}

func TestEveryStringListAndMapIsBounded(t *testing.T) {
	for _, crd := range crds {
		walkSchema(t, crd, func(path string, s map[string]any) {
			bound := true
			switch {
			case s["type"] == "string":
				bound = s["maxLength"] != nil || s["enum"] != nil || s["format"] == "date-time"
			case s["type"] == "array":
				bound = s["maxItems"] != nil
			case s["additionalProperties"] != nil:
				bound = s["maxProperties"] != nil
			}
			if !bound {
				t.Errorf("%s: %s has no bound", crd, path)
			}
		})
	}
}
