package v1alpha1

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
)

func TestSchemeKnowsEveryKind(t *testing.T) {
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{NodeContainerKind, "NodeContainerList"} {
		if _, err := s.New(GroupVersion.WithKind(kind)); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.New(GroupVersion.WithKind("Container")); err == nil {
		t.Error("the scheme knows a kind that there is not")
	}
}

// The API server refuses a field selector that the CRD does not name.
func TestFieldConstantsAreTheSelectableFields(t *testing.T) {
	source, err := os.ReadFile("nodecontainer_types.go")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile("selectablefield:JSONPath=`.(.*)`").FindAllSubmatch(source, -1) {
		got = append(got, string(m[1]))
	}
	want := []string{FieldNodeName, FieldContainerID, FieldRuntimeName, FieldType, FieldPodNamespace, FieldPodName,
		FieldPodUID, FieldState}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
