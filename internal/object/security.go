package object

import (
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func securityOf(c *cutter, root *specs.Root, process *specs.Process, linux *specs.Linux, rootless bool) v1alpha1.ContainerSecurity {
	s := v1alpha1.ContainerSecurity{
		Rootless:               rootless,
		UserNamespace:          !usesHost(linux.Namespaces, specs.UserNamespace),
		NoNewPrivileges:        process.NoNewPrivileges,
		ReadOnlyRootFilesystem: root != nil && root.Readonly,
		AllDevices:             allDevices(linux.Resources),
		Seccomp:                seccompOf(linux.Seccomp),
		AppArmorProfile:        c.text("security.appArmorProfile", process.ApparmorProfile, MaxText),
		SELinuxLabel:           c.text("security.seLinuxLabel", process.SelinuxLabel, MaxText),
	}
	for _, ns := range namespaces {
		if usesHost(linux.Namespaces, ns.oci) {
			s.HostNamespaces = append(s.HostNamespaces, ns.name)
		}
	}
	// "All capabilities" cannot be judged from here: engines know 38, 40 or 41 of them, and leave out those that the
	// node itself lacks. Who has SYS_ADMIN and the rest of this has everything.
	s.Privileged = hasCapability(process.Capabilities, "CAP_SYS_ADMIN") && s.AllDevices &&
		s.Seccomp == v1alpha1.SeccompUnconfined && len(linux.MaskedPaths) == 0 && len(linux.ReadonlyPaths) == 0
	return s
}

// namespaces are the types of namespaces that can be the node's own, in the order in which they are published.
var namespaces = []struct {
	oci  specs.LinuxNamespaceType
	name v1alpha1.NamespaceType
}{
	{specs.CgroupNamespace, v1alpha1.NamespaceCgroup},
	{specs.IPCNamespace, v1alpha1.NamespaceIPC},
	{specs.MountNamespace, v1alpha1.NamespaceMount},
	{specs.NetworkNamespace, v1alpha1.NamespaceNetwork},
	{specs.PIDNamespace, v1alpha1.NamespacePID},
	{specs.UTSNamespace, v1alpha1.NamespaceUTS},
}

// usesHost reports whether config.json leaves the node's namespace of a type to the container: it names none of that
// type, or process 1's. What another path leads to is not known here.
func usesHost(list []specs.LinuxNamespace, t specs.LinuxNamespaceType) bool {
	i := slices.IndexFunc(list, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	return i < 0 || strings.HasPrefix(list[i].Path, "/proc/1/ns/")
}

// allDevices reports whether the device cgroup allows every device. It denies all before the first rule.
func allDevices(r *specs.LinuxResources) bool {
	if r == nil {
		return false
	}
	all := false
	for _, rule := range r.Devices {
		every := (rule.Type == "" || rule.Type == "a") && anyNumber(rule.Major) && anyNumber(rule.Minor)
		if every && (!rule.Allow || strings.Contains(rule.Access, "w") && strings.Contains(rule.Access, "r")) {
			all = rule.Allow
		}
	}
	return all
}

func anyNumber(n *int64) bool { return n == nil || *n < 0 }

func seccompOf(s *specs.LinuxSeccomp) v1alpha1.SeccompMode {
	if s == nil || s.DefaultAction == specs.ActAllow && len(s.Syscalls) == 0 {
		return v1alpha1.SeccompUnconfined
	}
	return v1alpha1.SeccompFiltered
}

var capabilityName = regexp.MustCompile(`^CAP_[A-Z][A-Z0-9_]{1,28}$`)

// capabilitiesOf returns what the process has and what it can gain by executing a file. The ambient set is part of the
// permitted one. Runtimes ignore names that they do not know, and so does this, but it says so.
func capabilitiesOf(c *cutter, caps *specs.LinuxCapabilities) []string {
	if caps == nil {
		return nil
	}
	var names []string
	for _, name := range slices.Concat(caps.Bounding, caps.Permitted, caps.Effective) {
		if !capabilityName.MatchString(name) {
			c.cut("capabilities")
			continue
		}
		names = append(names, strings.TrimPrefix(name, "CAP_"))
	}
	slices.Sort(names)
	return capped(c, "capabilities", slices.Compact(names), maxCaps)
}

func hasCapability(caps *specs.LinuxCapabilities, name string) bool {
	return caps != nil && (slices.Contains(caps.Bounding, name) || slices.Contains(caps.Permitted, name))
}
