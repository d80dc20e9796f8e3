// Package drift compares what a container has with what its pod asked for. It is pure: no cluster, no clock.
package drift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// maxDifferences is how many differences are named; that there are more says enough.
const maxDifferences = 8

// Differences names what c has and p, its pod, did not ask for. What a pod leaves open is the engine's to choose.
func Differences(c *v1alpha1.NodeContainer, p *corev1.Pod) []string {
	differences := hostNamespaces(c, p)
	if c.Spec.Type == v1alpha1.TypeContainer {
		asked := containerOf(c, p)
		if asked == nil {
			differences = append(differences, fmt.Sprintf("the pod has no container %q", c.Spec.Pod.Container))
		} else {
			differences = slices.Concat(differences, privileges(c, p, asked), mountedPaths(c, p, asked), image(c, p, asked))
		}
	}
	if more := len(differences) - maxDifferences; more > 0 {
		differences = append(differences[:maxDifferences:maxDifferences], fmt.Sprintf("and %d more", more))
	}
	return differences
}

// hostNamespaces are those of the node that c shares and p did not ask for. A pod in the node's network has its UTS
// namespace too; the cgroup namespace is the engine's choice, and gives nothing.
func hostNamespaces(c *v1alpha1.NodeContainer, p *corev1.Pod) []string {
	asked := map[v1alpha1.NamespaceType]bool{
		v1alpha1.NamespaceCgroup:  true,
		v1alpha1.NamespaceIPC:     p.Spec.HostIPC,
		v1alpha1.NamespaceNetwork: p.Spec.HostNetwork,
		v1alpha1.NamespacePID:     p.Spec.HostPID,
		v1alpha1.NamespaceUTS:     p.Spec.HostNetwork,
	}
	var differences []string
	for _, ns := range c.Status.HostNamespaces {
		if !asked[ns] {
			differences = append(differences, fmt.Sprintf("it has the node's %s namespace", ns))
		}
	}
	if p.Spec.HostUsers != nil && !*p.Spec.HostUsers && !c.Spec.Security.UserNamespace {
		differences = append(differences, "it has the node's user namespace")
	}
	return differences
}

// privileges are what c can do and p did not ask for.
func privileges(c *v1alpha1.NodeContainer, p *corev1.Pod, asked *corev1.Container) []string {
	var differences []string
	context := asked.SecurityContext
	if context == nil {
		context = &corev1.SecurityContext{}
	}
	privileged := isTrue(context.Privileged)
	if c.Spec.Security.Privileged && !privileged {
		differences = append(differences, "it is privileged")
	}
	if extra := extraCapabilities(c.Spec.Capabilities, context.Capabilities); len(extra) > 0 && !privileged {
		differences = append(differences, "it has "+strings.Join(extra, ", "))
	}
	if isTrue(context.ReadOnlyRootFilesystem) && !c.Spec.Security.ReadOnlyRootFilesystem {
		differences = append(differences, "its root filesystem is writable")
	}
	user, nonRoot := context.RunAsUser, context.RunAsNonRoot
	if pod := p.Spec.SecurityContext; pod != nil {
		user, nonRoot = cmp.Or(user, pod.RunAsUser), cmp.Or(nonRoot, pod.RunAsNonRoot)
	}
	if uid := c.Spec.User.UID; uid != nil && (user != nil && *uid != *user || isTrue(nonRoot) && *uid == 0) {
		differences = append(differences, fmt.Sprintf("its user is %d", *uid))
	}
	return differences
}

// usualCapabilities are what an engine gives to a container that asks for none; CRI-O gives fewer.
var usualCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// extraCapabilities returns those of has that were not asked for. One that is added and dropped is dropped, but ALL
// counts before the names.
func extraCapabilities(has []string, asked *corev1.Capabilities) []string {
	if asked == nil {
		asked = &corev1.Capabilities{}
	}
	var extra []string
	for _, name := range has {
		usual := slices.Contains(usualCapabilities, name) && !names(asked.Drop, "ALL")
		given := (usual || names(asked.Add, "ALL") || names(asked.Add, name)) && !names(asked.Drop, name)
		if !given {
			extra = append(extra, name)
		}
	}
	return extra
}

func names(list []corev1.Capability, name string) bool {
	return slices.ContainsFunc(list, func(c corev1.Capability) bool {
		return strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_") == name
	})
}

// containerOf returns what p asked for c: by the name that c claims, or by its ID where it claims none.
func containerOf(c *v1alpha1.NodeContainer, p *corev1.Pod) *corev1.Container {
	name := c.Spec.Pod.Container
	if s := statusOf(c, p); name == "" && s != nil {
		name = s.Name
	}
	all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
	for _, e := range p.Spec.EphemeralContainers {
		all = append(all, corev1.Container(e.EphemeralContainerCommon))
	}
	return find(all, func(asked *corev1.Container) bool { return asked.Name == name })
}

// statusOf returns the status of c in p: nil where it has none.
func statusOf(c *v1alpha1.NodeContainer, p *corev1.Pod) *corev1.ContainerStatus {
	return find(Statuses(p), func(s *corev1.ContainerStatus) bool {
		return strings.HasSuffix(s.ContainerID, "://"+c.Spec.ContainerID)
	})
}

// Statuses are those of all containers of p: init, ephemeral and others.
func Statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses)
}

// find returns the first that is: nil where none is.
func find[T any](all []T, is func(*T) bool) *T {
	for i := range all {
		if is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }
