package object

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event/eventtest"
)

func TestPrivilegedIsWhatThreeEnginesMakeOfIt(t *testing.T) {
	for _, name := range eventtest.Configs(t) {
		want := slices.Contains([]string{"containerd-cri-privileged", "docker-privileged", "podman-privileged"}, name)
		if got := specFrom(name, eventtest.Config(t, name)).Security.Privileged; got != want {
			t.Errorf("%s: privileged is %t, want %t", name, got, want)
		}
	}
}

func TestPrivilegedIsNotWhatIsConfinedInOneWay(t *testing.T) {
	for what, confine := range map[string]func(*specs.Spec){
		"no SYS_ADMIN": func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_BPF"}} },
		"seccomp": func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}}}}
		},
		"masked":      func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/proc/kcore"} },
		"read-only":   func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/proc/sys"} },
		"few devices": func(s *specs.Spec) { s.Linux.Resources.Devices = s.Linux.Resources.Devices[:0] },
	} {
		spec := eventtest.Config(t, "docker-privileged")
		confine(spec)
		if specFrom("x", spec).Security.Privileged {
			t.Errorf("%s: privileged", what)
		}
	}
}

func TestAllDevicesIsTheLastWordOfTheRules(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	all, none := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}, specs.LinuxDeviceCgroup{Access: "rwm"}
	for _, tc := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  bool
	}{
		{nil, false},
		{[]specs.LinuxDeviceCgroup{none}, false},
		{[]specs.LinuxDeviceCgroup{none, all}, true},
		{[]specs.LinuxDeviceCgroup{all, none}, false},
		{[]specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Major: n(-1), Minor: n(-1), Access: "rwm"}}, true},
		{[]specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rwm"}}, false},
		{[]specs.LinuxDeviceCgroup{{Allow: true, Major: n(8), Access: "rwm"}}, false},
		{[]specs.LinuxDeviceCgroup{{Allow: true, Access: "m"}}, false}, // may make every node, and open none
	} {
		if got := allDevices(&specs.LinuxResources{Devices: tc.rules}); got != tc.want {
			t.Errorf("%+v: got %t", tc.rules, got)
		}
	}
	if allDevices(nil) {
		t.Error("all devices without resources")
	}
}

func TestHostNamespacesAreThoseThatAreNotMade(t *testing.T) {
	for _, tc := range []struct {
		name string
		want []v1alpha1.NamespaceType
		user bool
	}{
		{"runc-spec", []v1alpha1.NamespaceType{"Cgroup"}, false},
		{"runc-spec-rootless", []v1alpha1.NamespaceType{"Cgroup", "Network"}, true},
		{"podman-privileged", []v1alpha1.NamespaceType{"Cgroup", "PID"}, false},
		{"podman-userns", []v1alpha1.NamespaceType{"Cgroup"}, true},
		{"containerd-cri-hostnetwork", []v1alpha1.NamespaceType{"Cgroup"}, false}, // all by path: only the kernel knows
	} {
		s := specFrom(tc.name, eventtest.Config(t, tc.name)).Security
		if !slices.Equal(s.HostNamespaces, tc.want) || s.UserNamespace != tc.user {
			t.Errorf("%s: got %q and user namespace %t", tc.name, s.HostNamespaces, s.UserNamespace)
		}
	}
}

func TestNamespaceByPathIsTheHostsOnlyWithProcess1(t *testing.T) {
	list := []specs.LinuxNamespace{
		{Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}, {Type: specs.PIDNamespace, Path: "/proc/12/ns/pid"},
	}
	if !usesHost(list, specs.NetworkNamespace) || usesHost(list, specs.PIDNamespace) || !usesHost(list, specs.IPCNamespace) {
		t.Error("want the host's network and IPC, and not its PIDs")
	}
}

func TestSeccompThatAllowsEverythingIsNoFilter(t *testing.T) {
	for _, tc := range []struct {
		seccomp *specs.LinuxSeccomp
		want    v1alpha1.SeccompMode
	}{
		{nil, v1alpha1.SeccompUnconfined},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, v1alpha1.SeccompUnconfined},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, v1alpha1.SeccompFiltered},
		{eventtest.Config(t, "docker-container").Linux.Seccomp, v1alpha1.SeccompFiltered},
	} {
		if got := seccompOf(tc.seccomp); got != tc.want {
			t.Errorf("%+v: got %s", tc.seccomp, got)
		}
	}
}
