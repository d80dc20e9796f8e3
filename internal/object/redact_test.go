package object

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
)

const canary = "c4n4ry-s3cr3t"

// withSecrets puts canaries wherever a config.json can hold what is nobody's business.
func withSecrets(spec *specs.Spec) *specs.Spec {
	secret := func(where string) string { return canary + "-" + where }
	spec.Process.Args = append(spec.Process.Args[:1:1], "--password="+secret("args"))
	spec.Process.CommandLine = secret("commandline")
	spec.Process.Env = append(spec.Process.Env, "TOKEN="+secret("env"))
	if spec.Annotations == nil {
		spec.Annotations = make(map[string]string)
	}
	spec.Annotations["example.com/token"] = secret("annotation")
	spec.Annotations["io.kubernetes.cri-o.Annotations"] = secret("annotations")
	spec.Annotations["io.kubernetes.cri-o.Labels"] = secret("labels")
	spec.Mounts = append(spec.Mounts,
		specs.Mount{Destination: "/share", Type: "cifs", Source: "//u:" + secret("source") + "@server/share",
			Options: []string{"ro", "password=" + secret("option")}},
		specs.Mount{Destination: "/volume", Type: "fuse.sshfs", Source: secret("source") + "@server:/",
			Options: []string{secret("option")}},
		specs.Mount{Destination: "/bound", Type: "bind", Source: "/srv", Options: []string{secret("option"), "rbind"}})
	h := []specs.Hook{{Path: "/usr/bin/hook", Args: []string{"hook", secret("hook")}, Env: []string{"T=" + secret("hook")}}}
	spec.Hooks = everyStage(h)
	spec.Linux.Sysctl = map[string]string{"kernel.x": secret("sysctl")}
	spec.Linux.Seccomp = &specs.LinuxSeccomp{ListenerMetadata: secret("seccomp")}
	spec.Hostname, spec.Domainname = secret("hostname"), secret("domainname")
	return spec
}

func everyStage(h []specs.Hook) *specs.Hooks {
	return &specs.Hooks{
		Prestart:      h, //nolint:staticcheck // deprecated, and what docker uses
		CreateRuntime: h, CreateContainer: h, StartContainer: h, Poststart: h, Poststop: h,
	}
}

// All output is made of objects.
func TestNothingSecretIsInAnObject(t *testing.T) {
	o := testOptions()
	for _, name := range eventtest.Configs(t) {
		e := eventtest.Created(name, withSecrets(eventtest.Config(t, name)))
		object := New(&e, &o)
		for _, e.State = range []event.State{event.Creating, event.Created, event.Running, event.Stopped} {
			object.Status = Next(object, &e, e.Source, "", &o)
			whole := mustMarshal(t, object)
			if i := bytes.Index(whole, []byte(canary)); i >= 0 {
				t.Errorf("%s: %s", name, whole[i:min(i+60, len(whole))])
			}
			if !bytes.Contains(whole, []byte(e.State)) || object.Spec.Entrypoint == "" {
				t.Errorf("%s: nothing to look into", name)
			}
		}
	}
}

func TestAnnotationsAreThoseOfTheAllowlist(t *testing.T) {
	o := testOptions()
	o.Annotations = []string{"example.com/team", "example.com/absent"}
	e := eventtest.Created("x", &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{
		"example.com/team": "shop", "example.com/team-token": canary,
	}})
	got := specOf(&e, &o).Annotations
	if len(got) != 1 || got["example.com/team"] != "shop" {
		t.Errorf("got %q", got)
	}
}

func TestClean(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{
		{"/usr/bin/web server", 64, "/usr/bin/web server"},
		{"größe", 64, "größe"},
		{"größe", 3, "gr"}, // never half a character
		{"größe", 4, "grö"},
		{"", 4, ""},
		{"a\x00b\nc\x1b[2Jd\te", 64, "a\uFFFDb\uFFFDc\uFFFD[2Jd\uFFFDe"},
		{"\x9b2J", 64, "\uFFFD2J"},           // not UTF-8: as Latin-1 a control sequence
		{"\u009b2J", 64, "\uFFFD2J"},         // the same in UTF-8
		{"exe\u202egpj", 64, "exe\uFFFDgpj"}, // turns the direction of writing
		{"\n\n\n\n", 4, "\uFFFD"},            // its replacement is longer than what it stands for
		{strings.Repeat("x", 100), 10, "xxxxxxxxxx"},
	} {
		if got := Clean(tc.in, tc.limit); got != tc.want {
			t.Errorf("Clean(%q, %d) = %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func TestTruncatedNamesWhatWasCutAndNothingElse(t *testing.T) {
	spec := eventtest.Config(t, "containerd-cri-container")
	if got := specFrom("x", spec).Truncated; got != nil {
		t.Errorf("got %q for a config.json in which nothing is too long", got)
	}
	spec.Process.Args[0] = strings.Repeat("/x", MaxPath)
	spec.Annotations["io.kubernetes.cri.sandbox-name"] = "a\nb"
	for range maxMounts + 1 {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/s"})
	}
	got := specFrom("x", spec)
	if want := []string{"entrypoint", "pod.name", "mounts"}; !slices.Equal(got.Truncated, want) {
		t.Errorf("got %q, want %q", got.Truncated, want)
	}
	if len(got.Mounts) != maxMounts || len(got.Entrypoint) != MaxPath || got.Pod.Name != "a\uFFFDb" {
		t.Errorf("got %d mounts, an entrypoint of %d bytes, pod %q", len(got.Mounts), len(got.Entrypoint), got.Pod.Name)
	}
}

// hostile is an event in which every string and list is as large and as odd as s and n make it.
func hostile(s string, n int) event.Event {
	var h []specs.Hook
	spec := &specs.Spec{
		Process: &specs.Process{Args: []string{s}, ApparmorProfile: s, SelinuxLabel: s, Capabilities: new(specs.LinuxCapabilities)},
		Linux: &specs.Linux{CgroupsPath: s, Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.LinuxSeccompAction(s)},
			Resources: &specs.LinuxResources{}},
		Annotations: map[string]string{"nerdctl/name": s, "io.kubernetes.cri.container-type": s, "allowed": s},
	}
	for _, key := range []string{"sandbox-id", "sandbox-name", "sandbox-namespace", "sandbox-uid", "container-name", "image-name"} {
		spec.Annotations["io.kubernetes.cri."+key] = s + "@" + s
	}
	spec.Annotations["io.containerd.cri.runtime-handler"] = s
	for i := range n {
		spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, uint32(i))
		spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, s, fmt.Sprintf("CAP_%028d", i), fmt.Sprintf("CAP_X%027d", i))
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: s, Type: s, Source: "/" + s, Options: []string{s}})
		spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{Path: s, Type: s, Major: -1 << 63, Minor: 1<<63 - 1})
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(s), Path: s})
		h = append(h, specs.Hook{Path: s})
	}
	spec.Hooks = everyStage(h)
	e := eventtest.Created("x", spec)
	e.Name, e.Bundle, e.Problem = s, s, s
	e.Runtime = event.Runtime{Name: s, Path: s, Root: s}
	return e
}

func TestHostileConfigMakesABoundedObjectThatCanBePrinted(t *testing.T) {
	for name, s := range map[string]string{
		"long":             strings.Repeat("x", 1<<16),
		"long, doubled":    strings.Repeat(`"`, 1<<16),
		"long, escaped":    strings.Repeat("<", 1<<16), // six bytes in JSON
		"control":          strings.Repeat("\x00\n\x1b]0;", 1<<10),
		"not UTF-8":        strings.Repeat("\xff\xfe", 1<<10),
		"half a character": strings.Repeat("x", MaxPath-1) + "ß",
	} {
		t.Run(name, func(t *testing.T) {
			checkBounds(t, hostile(s, 1000))
		})
	}
}

func FuzzSpecOf(f *testing.F) {
	for _, name := range eventtest.Configs(f) {
		seed := eventtest.Config(f, name)
		if seed.Linux.Seccomp != nil { // most of its bytes, which only make the fuzzer slow
			seed.Linux.Seccomp.Syscalls = seed.Linux.Seccomp.Syscalls[:1]
		}
		seed.Linux.Devices = seed.Linux.Devices[:min(2, len(seed.Linux.Devices))]
		f.Add(mustMarshal(f, seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec specs.Spec
		if json.Unmarshal(data, &spec) != nil {
			return
		}
		checkBounds(t, event.Event{Spec: &spec, Container: event.Container{ID: "x"}})
	})
}

// checkBounds fails where the object of e is larger than it may be, or has a string that cannot be printed.
func checkBounds(t *testing.T, e event.Event) {
	t.Helper()
	o := testOptions()
	o.Annotations = []string{"allowed"}
	object := New(&e, &o)
	object.Status = Next(object, &e, e.Source, e.Problem, &o)
	if data := mustMarshal(t, object); len(data) > 16<<10 {
		t.Errorf("%d bytes", len(data))
	}
	s := &object.Spec
	for field, over := range map[string]bool{
		"capabilities": len(s.Capabilities) > 64, "mounts": len(s.Mounts) > 64, "devices": len(s.Devices) > 32,
		"hooks": len(s.Hooks) > 16, "truncated": len(s.Truncated) > 32, "supplementalGroups": len(s.User.SupplementalGroups) > 32,
		"name": len(s.Name) > 253, "pod.namespace": len(s.Pod.Namespace) > 63, "pod.uid": len(s.Pod.UID) > 64,
		"pod.container": len(s.Pod.Container) > 63, "image.name": len(s.Image.Name) > 512, "bundle": len(s.Bundle) > 1024,
	} {
		if over {
			t.Errorf("%s is over its bound", field)
		}
	}
	checkPrintable(t, reflect.ValueOf(*object))
}

func checkPrintable(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Errorf("%q cannot be printed", s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			checkPrintable(t, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			checkPrintable(t, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			checkPrintable(t, key)
			checkPrintable(t, v.MapIndex(key))
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type().Elem().PkgPath() != "time" {
			checkPrintable(t, v.Elem())
		}
	}
}

func TestSpecThatFitsIsLeftAlone(t *testing.T) {
	var c cutter
	spec := specFrom("docker-privileged", eventtest.Config(t, "docker-privileged"))
	want := mustMarshal(t, spec)
	c.fit(&spec)
	if got := mustMarshal(t, spec); !bytes.Equal(got, want) || c.fields != nil {
		t.Errorf("cut %q", c.fields)
	}
}

func TestSpecThatDoesNotFitLosesTheLeastTellingFirst(t *testing.T) {
	var c cutter
	spec := v1alpha1.NodeContainerSpec{Entrypoint: "/init", Devices: []v1alpha1.ContainerDevice{{Path: "/dev/fuse"}}}
	for range maxMounts {
		spec.Mounts = append(spec.Mounts, v1alpha1.ContainerMount{Destination: strings.Repeat("/x", 500)})
	}
	c.fit(&spec)
	if spec.Mounts != nil || spec.Devices != nil || spec.Entrypoint != "/init" {
		t.Errorf("got %d mounts, devices %v, entrypoint %q", len(spec.Mounts), spec.Devices, spec.Entrypoint)
	}
	if want := []string{"devices", "mounts"}; !slices.Equal(c.fields, want) {
		t.Errorf("truncated %q, want %q", c.fields, want)
	}
}
