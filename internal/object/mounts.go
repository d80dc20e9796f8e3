package object

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/utils/ptr"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// kernelFilesystems are those that every container has for itself: they hold nothing of the node's, and nothing that
// lasts.
var kernelFilesystems = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}

// mountsOf returns the mounts that reach into the node or outlive the container.
func mountsOf(c *cutter, mounts []specs.Mount, own owners) []v1alpha1.ContainerMount {
	var published []v1alpha1.ContainerMount
	for _, m := range mounts {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if m.Destination == "" || !bind && slices.Contains(kernelFilesystems, m.Type) || bind && own.ephemeral(m.Source) {
			continue
		}
		if len(published) == maxMounts {
			c.cut("mounts")
			break
		}
		published = append(published, mountOf(c, m, bind))
	}
	return published
}

// mountOf looks at two of a mount's options and copies none: others hold passwords (cifs) and keys. The source of a
// network filesystem may hold one too, so only paths are published.
func mountOf(c *cutter, m specs.Mount, bind bool) v1alpha1.ContainerMount {
	mount := v1alpha1.ContainerMount{Destination: c.text("mounts", m.Destination, MaxPath)}
	if strings.HasPrefix(m.Source, "/") && !strings.HasPrefix(m.Source, "//") { // "//" begins a share of a server
		mount.Source = c.text("mounts", m.Source, MaxPath)
	}
	if !bind {
		mount.Type = c.text("mounts", m.Type, maxType)
	}
	for _, option := range m.Options { // of two that contradict each other the last one holds, as for mount(8)
		switch option {
		case "ro", "rro":
			mount.ReadOnly = true
		case "rw", "rrw":
			mount.ReadOnly = false
		case "slave", "rslave":
			mount.Propagation = v1alpha1.PropagationHostToContainer
		case "shared", "rshared":
			mount.Propagation = v1alpha1.PropagationBidirectional
		case "private", "rprivate", "unbindable", "runbindable":
			mount.Propagation = ""
		}
	}
	return mount
}

func devicesOf(c *cutter, devices []specs.LinuxDevice) []v1alpha1.ContainerDevice {
	var published []v1alpha1.ContainerDevice
	for _, d := range capped(c, "devices", devices, maxDevices) {
		if d.Path == "" {
			continue
		}
		published = append(published, v1alpha1.ContainerDevice{
			Path: c.text("devices", d.Path, MaxPath), Type: deviceTypeOf(d.Type), Major: ptr.To(d.Major), Minor: ptr.To(d.Minor),
		})
	}
	return published
}

func deviceTypeOf(letter string) v1alpha1.DeviceType {
	switch t := v1alpha1.DeviceType(letter); t {
	case v1alpha1.DeviceCharacter, v1alpha1.DeviceUnbuffered, v1alpha1.DeviceBlock, v1alpha1.DeviceFIFO:
		return t
	}
	return ""
}

// owners knows what belongs to a container or its pod alone.
type owners struct {
	pod string   // the pod's UID, or empty
	ids []string // of the container and its sandbox
}

// The kubelet's names for the kinds of volumes that go when the pod goes.
var ephemeralVolumes = []string{
	"kubernetes.io~empty-dir", "kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~downward-api",
	"kubernetes.io~projected",
}

// ephemeral reports whether source, a path on the node, goes with the container or its pod.
func (o owners) ephemeral(source string) bool {
	elements := strings.Split(path.Clean(source), "/")
	for i, element := range elements {
		if slices.Contains(o.ids, element) {
			return true
		}
		if element != o.pod || o.pod == "" || i+1 == len(elements) {
			continue
		}
		// Below /var/lib/kubelet/pods/<UID> are etc-hosts, containers (the termination logs) and the volumes.
		switch rest := elements[i+1:]; rest[0] {
		case "etc-hosts", "containers":
			return true
		case "volumes":
			return len(rest) > 1 && slices.Contains(ephemeralVolumes, rest[1])
		}
	}
	return false
}
