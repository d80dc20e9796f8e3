package printer

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// column is one of a table: its header, how wide its cells will probably be, and how to make one. An empty cell is
// printed as <none>.
type column struct {
	name  string
	width int
	cell  func(*v1alpha1.NodeContainer) string
}

// What somebody wants to see who watches one node: kubectl's columns for the CRD begin with what is the same in every
// line here, the node.
var tableColumns = []column{
	{"ID", 12, func(c *v1alpha1.NodeContainer) string { return c.Spec.ContainerID[:min(12, len(c.Spec.ContainerID))] }},
	{"RUNTIME", 7, func(c *v1alpha1.NodeContainer) string { return c.Spec.Runtime.Name }},
	{"STATE", 8, func(c *v1alpha1.NodeContainer) string { return string(c.Status.State) }},
	{"PID", 7, func(c *v1alpha1.NodeContainer) string { return number(c.Status.PID) }},
	{"EXIT", 6, exitCell},
	{"REASON", 9, func(c *v1alpha1.NodeContainer) string { return string(c.Status.Reason) }},
	{"NAMESPACE", 11, func(c *v1alpha1.NodeContainer) string { return c.Spec.Pod.Namespace }},
	{"POD", 6, func(c *v1alpha1.NodeContainer) string { return c.Spec.Pod.Name }},
	{"CONTAINER", 9, func(c *v1alpha1.NodeContainer) string { return cmp.Or(c.Spec.Pod.Container, c.Spec.Name) }},
	{"IMAGE", 6, func(c *v1alpha1.NodeContainer) string { return c.Spec.Image.Name }},
	{"ENTRYPOINT", 10, func(c *v1alpha1.NodeContainer) string { return c.Spec.Entrypoint }},
}

var wideColumns = []column{
	{"USER", 6, userCell},
	{"CAPS", 6, capsCell},
	{"LINUX-NAMESPACES", 103, namespacesCell},
	{"CGROUP", 6, cgroupCell},
}

func exitCell(c *v1alpha1.NodeContainer) string {
	if c.Status.ExitCode == nil {
		return ""
	}
	return strconv.Itoa(int(*c.Status.ExitCode))
}

func userCell(c *v1alpha1.NodeContainer) string {
	if u := c.Spec.User; u.UID != nil && u.GID != nil {
		return fmt.Sprintf("%d:%d", *u.UID, *u.GID)
	}
	return ""
}

// capsCell names a few capabilities, and counts many.
func capsCell(c *v1alpha1.NodeContainer) string {
	switch caps := c.Spec.Capabilities; {
	case c.Spec.Security.Privileged:
		return "privileged"
	case len(caps) > 3:
		return strconv.Itoa(len(caps))
	default:
		return strings.Join(caps, ",")
	}
}

// cgroupCell is the path that was asked for, or else the ID of the cgroup in which the container really is.
func cgroupCell(c *v1alpha1.NodeContainer) string {
	return cmp.Or(c.Spec.CgroupsPath, number(c.Status.CgroupID))
}

func namespacesCell(c *v1alpha1.NodeContainer) string {
	ns := c.Status.Namespaces
	var cell []string
	for _, n := range []struct {
		name  string
		inode int64
	}{
		{"cgroup", ns.Cgroup}, {"ipc", ns.IPC}, {"mnt", ns.Mount}, {"net", ns.Network}, {"pid", ns.PID},
		{"user", ns.User}, {"uts", ns.UTS},
	} {
		if n.inode != 0 {
			cell = append(cell, n.name+":"+number(n.inode))
		}
	}
	return strings.Join(cell, ",")
}

// number is empty for 0, which no PID and no inode is.
func number[T int32 | int64](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}
