package drift

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// mountedPaths are the paths of the node that c has and its pod did not ask for. Where a device plugin or a driver of
// dynamic resources adds what it likes, nothing can be said.
func mountedPaths(c *v1alpha1.NodeContainer, p *corev1.Pod, asked *corev1.Container) []string {
	if len(asked.Resources.Claims) > 0 || len(extended(asked.Resources.Limits)) > 0 {
		return nil
	}
	var differences []string
	for _, m := range c.Spec.Mounts {
		if m.Source == "" || engineFile.MatchString(m.Source) || isSharedMemory(m) && p.Spec.HostIPC {
			continue
		}
		vm := find(asked.VolumeMounts, func(vm *corev1.VolumeMount) bool {
			return clean(vm.MountPath) == clean(m.Destination)
		})
		switch {
		case vm == nil || !comesFrom(m.Source, vm, c.Spec.Pod.UID, p):
			differences = append(differences, fmt.Sprintf("%s is the node's %s", m.Destination, m.Source))
		case vm.ReadOnly && !m.ReadOnly:
			differences = append(differences, m.Destination+" is writable")
		}
	}
	return differences
}

// engineFile matches what docker and others mount of their own: files below a directory of the container or its
// sandbox.
var engineFile = regexp.MustCompile(`/[0-9a-f]{64}/(resolv\.conf|hostname|hosts|shm|mounts/shm)$`)

// isSharedMemory reports whether m is the node's own shared memory, which an engine mounts into a container that has the
// node's IPC namespace.
func isSharedMemory(m v1alpha1.ContainerMount) bool {
	return m.Destination == "/dev/shm" && m.Source == "/dev/shm"
}

// comesFrom reports whether source, a path on the node, can be a mount's volume. The kubelet keeps volumes and subpaths
// below a directory of the pod; images are the engine's, wherever it keeps them.
func comesFrom(source string, vm *corev1.VolumeMount, podUID string, p *corev1.Pod) bool {
	v := find(p.Spec.Volumes, func(v *corev1.Volume) bool { return v.Name == vm.Name })
	if v == nil {
		return false
	}
	ofPod := slices.Contains(strings.Split(source, "/"), cmp.Or(podUID, string(p.UID)))
	switch {
	case v.PersistentVolumeClaim != nil || v.Ephemeral != nil:
		return true // a volume of type hostPath or local is wherever its administrator made it
	case v.HostPath == nil:
		return v.Image != nil || ofPod
	}
	if vm.SubPath != "" || vm.SubPathExpr != "" {
		return ofPod
	}
	return strings.HasPrefix(resolved(source), resolved(v.HostPath.Path))
}

// clean returns a path as the kernel has it: a pod may write one without a slash before it, or with two.
func clean(name string) string { return path.Clean("/" + name) }

// links are symbolic links that most nodes have: containerd resolves the source of a mount, a pod need not.
var links = []struct{ from, to string }{
	{"/var/run/", "/run/"}, {"/var/lock/", "/run/lock/"},
	{"/bin/", "/usr/bin/"}, {"/lib/", "/usr/lib/"}, {"/lib64/", "/usr/lib64/"}, {"/sbin/", "/usr/sbin/"},
}

// resolved returns path with the usual links resolved, and with a slash at its end.
func resolved(name string) string {
	name = strings.TrimRight(clean(name), "/") + "/"
	for _, link := range links {
		if rest, ok := strings.CutPrefix(name, link.from); ok {
			return link.to + rest
		}
	}
	return name
}

// extended returns those of the resources that a device plugin hands out.
func extended(resources corev1.ResourceList) corev1.ResourceList {
	var list corev1.ResourceList
	for name, quantity := range resources {
		if strings.Contains(string(name), "/") && !strings.Contains(string(name), "kubernetes.io/") {
			if list == nil {
				list = corev1.ResourceList{}
			}
			list[name] = quantity
		}
	}
	return list
}

// image says whether c has another image than its pod asked for. An engine names an image as it likes, and the pod's
// status has its word for it.
func image(c *v1alpha1.NodeContainer, p *corev1.Pod, asked *corev1.Container) []string {
	has := c.Spec.Image.Name
	if has == "" || strings.HasPrefix(has, "sha256:") {
		return nil
	}
	same := []string{asked.Image}
	if s := statusOf(c, p); s != nil {
		same = append(same, s.Image, s.ImageID)
	}
	if slices.ContainsFunc(same, func(name string) bool { return reference(name) == reference(has) }) {
		return nil
	}
	return []string{fmt.Sprintf("its image is %s", has)}
}

// reference returns an image's name as containerd writes it: with registry, and with the tag only where there is no
// digest.
func reference(name string) string {
	name, digest, pinned := strings.Cut(name, "@")
	tag := "latest"
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag = name[:i], name[i+1:]
	}
	host, _, hasHost := strings.Cut(name, "/")
	switch {
	case !hasHost:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		name = "docker.io/" + name
	}
	if pinned {
		return name + "@" + digest
	}
	return name + ":" + tag
}
