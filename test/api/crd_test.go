package api

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestSpecIsImmutableAndTheRestIsNot(t *testing.T) {
	c := newClient(t, plane.Config)
	object := newContainer("immutable", "node-1")
	create(t, c, object)

	changed := object.DeepCopy()
	changed.Spec.Entrypoint = "sh"
	err := c.Update(t.Context(), changed)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec is immutable") {
		t.Errorf("a change of spec: %v", err)
	}
	object.Labels = map[string]string{"seen": "yes"}
	if err := c.Update(t.Context(), object); err != nil {
		t.Errorf("a label: %v", err)
	}
	object.Status.State = v1alpha1.StateRunning
	if err := c.Status().Update(t.Context(), object); err != nil {
		t.Errorf("status: %v", err)
	}
}

func TestTheControllerCanChangeTheSpecOfAnAgent(t *testing.T) {
	c := newClient(t, plane.Config)
	object := &v1alpha1.NodeContainerAgent{}
	object.Name = "changeable"
	create(t, c, object)
	object.Spec.SuspendCreates = true
	if err := c.Update(t.Context(), object); err != nil {
		t.Error(err)
	}
}

func TestEveryFieldSelectorSelects(t *testing.T) {
	c := newClient(t, plane.Config)
	it, other := newContainer("selected", "node-1"), newContainer("other", "node-2")
	it.Spec.ContainerID, it.Spec.Type = "1", v1alpha1.TypeSandbox
	it.Spec.Runtime.Name = "crun"
	it.Spec.Pod = v1alpha1.ContainerPod{Namespace: "shop", Name: "web", UID: "u"}
	create(t, c, it)
	create(t, c, other)
	it.Status.State = v1alpha1.StateRunning
	if err := c.Status().Update(t.Context(), it); err != nil {
		t.Fatal(err)
	}
	for field, value := range map[string]string{
		v1alpha1.FieldNodeName:     "node-1",
		v1alpha1.FieldContainerID:  "1",
		v1alpha1.FieldRuntimeName:  "crun",
		v1alpha1.FieldType:         "Sandbox",
		v1alpha1.FieldPodNamespace: "shop",
		v1alpha1.FieldPodName:      "web",
		v1alpha1.FieldPodUID:       "u",
		v1alpha1.FieldState:        "Running",
	} {
		t.Run(field, func(t *testing.T) {
			list := &v1alpha1.NodeContainerList{}
			if err := c.List(t.Context(), list, client.MatchingFields{field: value}); err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != 1 || list.Items[0].Name != "selected" {
				t.Errorf("%s=%s selects %d objects", field, value, len(list.Items))
			}
		})
	}
}

func TestNoOtherFieldSelects(t *testing.T) {
	c := newClient(t, plane.Config)
	selector := fields.OneTermEqualSelector("spec.bootID", "boot")
	err := c.List(t.Context(), &v1alpha1.NodeContainerList{}, client.MatchingFieldsSelector{Selector: selector})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("spec.bootID: %v", err)
	}
}

// What the agent makes of the config.json of real engines must come back as it was.
func TestTheSpecsOfRealContainersAreKeptAsTheyAre(t *testing.T) {
	c := newClient(t, plane.Config)
	files, err := filepath.Glob("../../internal/object/testdata/spec/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			object := newContainer(name, "node-1")
			readYAML(t, file, &object.Spec)
			sent := object.DeepCopy()
			create(t, c, object)
			got := &v1alpha1.NodeContainer{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(sent.Spec, got.Spec, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatTheSchemaDoesNotKnowIsDropped(t *testing.T) {
	c := newClient(t, plane.Config)
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       v1alpha1.NodeContainerKind,
		"metadata":   map[string]any{"name": "unknown-fields"},
		"spec": map[string]any{
			"nodeName": "node-1", "bootID": "boot", "containerID": "1", "type": "Container",
			"env":    []any{"PASSWORD=hunter2"},
			"mounts": []any{map[string]any{"destination": "/data", "options": []any{"password=hunter2"}}},
		},
	}}
	strict := client.WithFieldValidation(c, metav1.FieldValidationStrict) // what kubectl asks for
	if err := strict.Create(t.Context(), object.DeepCopy()); !apierrors.IsBadRequest(err) {
		t.Errorf("strictly: %v", err)
	}
	create(t, c, object)
	stored, err := plane.Stored(t.Context(), "/registry/containerhook.io/nodecontainers/unknown-fields")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stored, "/data") || strings.Contains(stored, "hunter2") {
		t.Errorf("stored: %s", stored)
	}
}

func TestWhatIsOutOfBoundsIsRefused(t *testing.T) {
	c := newClient(t, plane.Config)
	uid, negative := int64(0), int64(-1)
	tests := map[string]struct {
		good, bad func(*v1alpha1.NodeContainerSpec)
	}{
		"a long string": {
			func(s *v1alpha1.NodeContainerSpec) { s.Bundle = strings.Repeat("é", 1024) }, // characters, not bytes
			func(s *v1alpha1.NodeContainerSpec) { s.Bundle = strings.Repeat("a", 1025) },
		},
		"no container ID": {
			func(s *v1alpha1.NodeContainerSpec) { s.ContainerID = "1" },
			func(s *v1alpha1.NodeContainerSpec) { s.ContainerID = "" },
		},
		"a type that there is not": {
			func(s *v1alpha1.NodeContainerSpec) { s.Type = v1alpha1.TypeSandbox },
			func(s *v1alpha1.NodeContainerSpec) { s.Type = "Pod" },
		},
		"a long list": {
			func(s *v1alpha1.NodeContainerSpec) { s.Mounts = mounts(64) },
			func(s *v1alpha1.NodeContainerSpec) { s.Mounts = mounts(65) },
		},
		"a long item": {
			func(s *v1alpha1.NodeContainerSpec) { s.Capabilities = []string{strings.Repeat("A", 32)} },
			func(s *v1alpha1.NodeContainerSpec) { s.Capabilities = []string{strings.Repeat("A", 33)} },
		},
		"a set that has something twice": {
			func(s *v1alpha1.NodeContainerSpec) { s.Truncated = []string{"a", "b"} },
			func(s *v1alpha1.NodeContainerSpec) { s.Truncated = []string{"a", "a"} },
		},
		"many annotations": {
			func(s *v1alpha1.NodeContainerSpec) { s.Annotations = annotations(16) },
			func(s *v1alpha1.NodeContainerSpec) { s.Annotations = annotations(17) },
		},
		"a negative user": {
			func(s *v1alpha1.NodeContainerSpec) { s.User = v1alpha1.ContainerUser{UID: &uid, GID: &uid} },
			func(s *v1alpha1.NodeContainerSpec) { s.User = v1alpha1.ContainerUser{UID: &negative, GID: &uid} },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			good := newContainer("bounds", "node-1")
			tt.good(&good.Spec)
			create(t, c, good)
			bad := newContainer("out-of-bounds", "node-1")
			tt.bad(&bad.Spec)
			if err := c.Create(t.Context(), bad); !apierrors.IsInvalid(err) {
				t.Errorf("not refused: %v", err)
			}
		})
	}
}

func mounts(n int) []v1alpha1.ContainerMount {
	var list []v1alpha1.ContainerMount
	for i := range n {
		list = append(list, v1alpha1.ContainerMount{Destination: fmt.Sprintf("/%d", i)})
	}
	return list
}

func annotations(n int) map[string]v1alpha1.AnnotationValue {
	m := map[string]v1alpha1.AnnotationValue{}
	for i := range n {
		m[fmt.Sprint(i)] = "x"
	}
	return m
}
