package object

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/utils/ptr"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event/eventtest"
)

const (
	testPodUID    = "5f0c3f0e-2c1b-4c57-9a8e-0d8a4b6e7c11"
	testSandboxID = "0c509676c0d961d806d2034d42bf911c60503f5b776a47cf7d35c863fc92e660"
)

func TestMountsAreThoseThatReachOutOfTheContainer(t *testing.T) {
	pods := "/var/lib/kubelet/pods/" + testPodUID
	for source, told := range map[string]bool{
		"/etc":                   true,
		"/var/lib/kubelet/pods":  true, // every pod's
		pods:                     true,
		pods + "/etc-hosts":      false,
		pods + "/containers/a/b": false,
		pods + "/volumes/kubernetes.io~empty-dir/cache":                                              false,
		pods + "/volumes/kubernetes.io~projected/token":                                              false,
		pods + "/volumes/kubernetes.io~csi/pvc-1/mount":                                              true,
		pods + "/volumes/kubernetes.io~nfs/share":                                                    true,
		pods + "/volume-subpaths/pvc-1/main/0":                                                       true, // of which kind is not known
		pods + "/volumes/kubernetes.io~secret/../../../x":                                            true,
		"/var/lib/kubelet/pods/6ba7b810-9dad-11d1-80b4-00c04fd430c8/etc-hosts":                       true, // another's
		"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/" + testSandboxID + "/shm":              false,
		"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/" + testSandboxID + "/../" + "x":        true,
		"/var/lib/docker/containers/" + testSandboxID[:32] + "/hosts":                                true,
		"/var/lib/docker/volumes/3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab8/_data": true,
	} {
		var c cutter
		cl := claim{uid: testPodUID, sandboxID: testSandboxID}
		got := mountsOf(&c, []specs.Mount{{Destination: "/x", Type: "bind", Source: source}}, cl.owners("short"))
		if (len(got) == 1) != told {
			t.Errorf("%s: told %v, want %v", source, got, told)
		}
	}
}

// A container named "etc" must not hide that /etc is mounted.
func TestMountOfADirectoryNamedAsTheContainerIsTold(t *testing.T) {
	var c cutter
	cl := claim{uid: "srv", sandboxID: "home"}
	mounts := []specs.Mount{
		{Destination: "/a", Type: "bind", Source: "/etc"}, {Destination: "/b", Type: "bind", Source: "/srv/etc-hosts"},
		{Destination: "/c", Type: "bind", Source: "/home"},
	}
	if got := mountsOf(&c, mounts, cl.owners("etc")); len(got) != 3 {
		t.Errorf("got %v, want all three", got)
	}
}

func TestMountTellsReadOnlyAndPropagationAndNoOtherOption(t *testing.T) {
	for _, tc := range []struct {
		mount specs.Mount
		want  v1alpha1.ContainerMount
	}{
		{
			specs.Mount{Destination: "/a", Type: "bind", Source: "/srv", Options: []string{"rbind", "rw", "nosuid", "rprivate"}},
			v1alpha1.ContainerMount{Destination: "/a", Source: "/srv"},
		}, {
			specs.Mount{Destination: "/a", Type: "none", Source: "/srv", Options: []string{"bind", "rw", "ro", "rslave"}},
			v1alpha1.ContainerMount{Destination: "/a", Source: "/srv", ReadOnly: true, Propagation: "HostToContainer"},
		}, {
			specs.Mount{Destination: "/a", Source: "/srv", Options: []string{"rbind", "rro", "rshared", "uid=1000"}},
			v1alpha1.ContainerMount{Destination: "/a", Source: "/srv", ReadOnly: true, Propagation: "Bidirectional"},
		}, {
			specs.Mount{Destination: "/a", Type: "ext4", Source: "/dev/sdb1", Options: []string{"ro"}},
			v1alpha1.ContainerMount{Destination: "/a", Source: "/dev/sdb1", Type: "ext4", ReadOnly: true},
		}, {
			specs.Mount{Destination: "/a", Type: "cifs", Source: "//server/share"},
			v1alpha1.ContainerMount{Destination: "/a", Type: "cifs"},
		}, {
			specs.Mount{Destination: "/a", Type: "tmpfs", Source: "/srv", Options: []string{"rbind"}}, // bind wins: mount(2)
			v1alpha1.ContainerMount{Destination: "/a", Source: "/srv"},
		},
	} {
		var c cutter
		got := mountsOf(&c, []specs.Mount{tc.mount}, owners{})
		if diff := cmp.Diff([]v1alpha1.ContainerMount{tc.want}, got); diff != "" {
			t.Errorf("%+v: -want +got:\n%s", tc.mount, diff)
		}
	}
}

func TestKernelFilesystemsAreNotTold(t *testing.T) {
	var c cutter
	for _, mount := range eventtest.Config(t, "runc-spec").Mounts {
		if got := mountsOf(&c, []specs.Mount{mount}, owners{}); got != nil {
			t.Errorf("told %v", got)
		}
	}
}

func TestDevicesAreToldUnlessAllAreAllowed(t *testing.T) {
	spec := eventtest.Config(t, "podman-restricted")
	want := []v1alpha1.ContainerDevice{{Path: "/dev/fuse", Type: v1alpha1.DeviceCharacter, Major: ptr.To[int64](10), Minor: ptr.To[int64](229)}}
	if diff := cmp.Diff(want, specFrom("x", spec).Devices); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	if got := specFrom("x", spec).Devices; got != nil {
		t.Errorf("got %v", got)
	}
}
