package object

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
	"github.com/containerhook/containerhook/internal/golden"
)

func testOptions() Options {
	return Options{NodeName: "node-1", BootID: eventtest.BootID, Now: func() time.Time { return eventtest.Epoch }}
}

func specFrom(name string, spec *specs.Spec) v1alpha1.NodeContainerSpec {
	o := testOptions()
	e := eventtest.Created(name, spec)
	return specOf(&e, &o)
}

// The golden files are the facts of every engine's config.json: read them as what a user gets.
func TestSpecOfEveryEngineIsAsGolden(t *testing.T) {
	for _, name := range eventtest.Configs(t) {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(specFrom(name, eventtest.Config(t, name)))
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, filepath.Join("testdata", "spec", name+".yaml"), got)
		})
	}
}

func TestSpecOfAContainerWithoutConfigHasWhatTheRuntimeWasTold(t *testing.T) {
	e := eventtest.Created("runc-spec", eventtest.Config(t, "runc-spec"))
	e.Spec = nil
	o := testOptions()
	want := v1alpha1.NodeContainerSpec{
		NodeName: "node-1", BootID: eventtest.BootID, ContainerID: "runc-spec", Type: v1alpha1.TypeContainer,
		Runtime: v1alpha1.ContainerRuntime{Name: "runc", Path: "/usr/sbin/runc"},
		Bundle:  "/run/containerd/io.containerd.runtime.v2.task/k8s.io/runc-spec",
	}
	if diff := cmp.Diff(want, specOf(&e, &o)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSpecOfAnEmptyConfigDoesNotFail(t *testing.T) {
	got := specFrom("x", &specs.Spec{Linux: &specs.Linux{}})
	if got.Entrypoint != "" || got.User.UID != nil || got.Security.Privileged {
		t.Errorf("got %+v", got)
	}
	e := event.Event{Spec: new(specs.Spec)}
	specOf(&e, &Options{})
}

func TestPodOfAContainer(t *testing.T) {
	const uid = "5f0c3f0e-2c1b-4c57-9a8e-0d8a4b6e7c11"
	for name, tc := range map[string]struct {
		annotations map[string]string
		cgroup      string
		want        v1alpha1.ContainerPod
	}{
		"containerd's": {
			annotations: eventtest.Config(t, "containerd-cri-container").Annotations,
			want:        v1alpha1.ContainerPod{Namespace: "shop", Name: "web-7d4b9c6f5-x2x9k", UID: uid, Container: "main"},
		},
		"CRI-O's": {
			annotations: eventtest.Config(t, "crio-container").Annotations,
			want:        v1alpha1.ContainerPod{Namespace: "shop", Name: "web-7d4b9c6f5-x2x9k", UID: uid, Container: "main"},
		},
		"a sandbox has no name in its pod": {
			annotations: eventtest.Config(t, "crio-sandbox").Annotations,
			want:        v1alpha1.ContainerPod{Namespace: "shop", Name: "web-7d4b9c6f5-x2x9k", UID: uid},
		},
		"by the cgroup alone, cgroupfs driver": {
			cgroup: "/kubepods/burstable/pod" + uid + "/0c509676c0d9",
			want:   v1alpha1.ContainerPod{UID: uid},
		},
		"by the cgroup alone, systemd driver": {
			cgroup: "kubepods-besteffort-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice:docker:0c509676c0d9",
			want:   v1alpha1.ContainerPod{UID: uid},
		},
		"a static pod, by the cgroup alone": {
			cgroup: "/kubepods/pod0123456789abcdef0123456789abcdef/0c509676c0d9",
			want:   v1alpha1.ContainerPod{UID: "0123456789abcdef0123456789abcdef"},
		},
		"podman's own pod is not a Kubernetes pod": {
			annotations: eventtest.Config(t, "podman-pod-member").Annotations,
			cgroup:      eventtest.Config(t, "podman-pod-member").Linux.CgroupsPath,
		},
		"a cgroup that only looks like a pod's": {cgroup: "/tripods/podium/x"},
		"names without an engine's word for it are nobody's": {
			annotations: map[string]string{"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := specFrom("x", &specs.Spec{Annotations: tc.annotations, Linux: &specs.Linux{CgroupsPath: tc.cgroup}}).Pod
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNameIsTheEnginesAndElseNerdctls(t *testing.T) {
	e := eventtest.Created("x", &specs.Spec{Annotations: map[string]string{"nerdctl/name": "mine"}, Linux: &specs.Linux{}})
	o := testOptions()
	if got := specOf(&e, &o).Name; got != "mine" {
		t.Errorf("got %q, want the annotation's", got)
	}
	e.Name = "conmons"
	if got := specOf(&e, &o).Name; got != "conmons" {
		t.Errorf("got %q, want conmon's", got)
	}
}

func TestImageDigestIsThatOfItsName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("1780b5a5", 8)
	for image, want := range map[string]v1alpha1.ContainerImage{
		"quay.io/shop@" + digest: {Name: "quay.io/shop@" + digest, Digest: digest},
		"quay.io/shop:1.4":       {Name: "quay.io/shop:1.4"},
		"":                       {},
	} {
		spec := eventtest.Config(t, "containerd-cri-container")
		spec.Annotations["io.kubernetes.cri.image-name"] = image
		if diff := cmp.Diff(want, specFrom("x", spec).Image); diff != "" {
			t.Errorf("%q: -want +got:\n%s", image, diff)
		}
	}
}

func TestResourcesWithoutALimitAreLeftOut(t *testing.T) {
	none, zero, shares, period := int64(-1), int64(0), uint64(1<<63), uint64(100000)
	got := resourcesOf(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &none},
		CPU:    &specs.LinuxCPU{Shares: &shares, Quota: &none, Period: &period},
		Pids:   &specs.LinuxPids{Limit: &zero},
	})
	if got != (v1alpha1.ContainerResources{}) {
		t.Errorf("got %+v", got)
	}
}

// With a quota the period is told, unless it is the kernel's own.
func TestThePeriodOfAQuotaIsToldWhereItIsUnusual(t *testing.T) {
	for period, want := range map[uint64]int64{100_000: 0, 50_000: 50_000} {
		quota := int64(25_000)
		got := resourcesOf(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}})
		if got.CPUQuota != quota || got.CPUPeriod != want {
			t.Errorf("of a period of %d: got %+v", period, got)
		}
	}
}

func TestHooksAreToldInTheirStages(t *testing.T) {
	h := func(path string) []specs.Hook { return []specs.Hook{{Path: path}} }
	got := specFrom("x", &specs.Spec{Linux: &specs.Linux{}, Hooks: &specs.Hooks{
		Prestart:      h("/a"), //nolint:staticcheck // deprecated, and what docker uses
		CreateRuntime: h("/b"), CreateContainer: h("/c"), StartContainer: h("/d"),
		Poststart: h("/e"), Poststop: h("/f"),
	}}).Hooks
	want := []v1alpha1.ContainerHook{
		{Stage: "Prestart", Path: "/a"}, {Stage: "CreateRuntime", Path: "/b"}, {Stage: "CreateContainer", Path: "/c"},
		{Stage: "StartContainer", Path: "/d"}, {Stage: "Poststart", Path: "/e"}, {Stage: "Poststop", Path: "/f"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// An object must be small: a node has hundreds, and a cluster thousands of nodes.
func TestObjectOfATypicalContainerIsSmall(t *testing.T) {
	for _, tc := range []struct {
		name string
		most int
	}{
		{"containerd-cri-container", 2080}, // of cgroup v1: that it has the node's cgroup namespace comes on top
		{"containerd-cri-privileged", 2640}, {"crio-container", 2048},
		{"docker-container", 2048}, {"podman-container", 2048}, {"runc-spec", 1536},
	} {
		o := testOptions()
		e := eventtest.Created(tc.name, eventtest.Config(t, tc.name))
		e.State, e.StartTime = event.Running, eventtest.Epoch
		object := New(&e, &o)
		object.Status = Next(object, &e, e.Source, "", &o)
		whole := mustMarshal(t, stored(object))
		t.Logf("%-26s %4d bytes, spec %4d; as stored, with what API server and controller add, %4d; config.json %5d", tc.name,
			len(mustMarshal(t, object)), size(&object.Spec), len(whole), len(mustMarshal(t, eventtest.Config(t, tc.name))))
		if len(whole) > tc.most {
			t.Errorf("%s: %d bytes, want at most %d: %s", tc.name, len(whole), tc.most, whole)
		}
	}
}

// stored is object with what the API server and the controller will add.
func stored(object *v1alpha1.NodeContainer) *v1alpha1.NodeContainer {
	s := object.DeepCopy()
	s.UID, s.Generation, s.CreationTimestamp = testPodUID, 1, metav1.NewTime(eventtest.Epoch)
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: testPodUID}}
	for kind, reason := range map[string]string{
		v1alpha1.ConditionPodMatched: v1alpha1.ReasonMatched, v1alpha1.ConditionSpecMatched: v1alpha1.ReasonAsRequested,
	} {
		s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(eventtest.Epoch),
		})
	}
	return s
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCapabilitiesAreTheUnionAndUnknownNamesAreNot(t *testing.T) {
	var c cutter
	got := capabilitiesOf(&c, &specs.LinuxCapabilities{
		Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_BPF"},
		Inheritable: []string{"CAP_SYS_ADMIN"},
	})
	if want := []string{"BPF", "CHOWN", "KILL"}; !slices.Equal(got, want) || c.fields != nil {
		t.Errorf("got %q and truncated %q, want %q", got, c.fields, want)
	}
	got = capabilitiesOf(&c, &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "chown", "CAP_X\x1b[2J"}})
	if want := []string{"KILL"}; !slices.Equal(got, want) || !slices.Equal(c.fields, []string{"capabilities"}) {
		t.Errorf("got %q and truncated %q, want %q", got, c.fields, want)
	}
}
