package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// capabilities are those that the agent has, by their bits: linux/capability.h.
const capabilities = 1<<19 | // SYS_PTRACE
	1<<21 | // SYS_ADMIN
	1<<23 | // SYS_NICE
	1<<38 | // PERFMON
	1<<39 // BPF

func TestTheAgentsPodAsksForNoMoreThanItIsSaidTo(t *testing.T) {
	beside(t)
	agent := runningAgent(t, someNodes(t, 1)[0], nil)
	if s := agent.Spec; s.HostPID || s.HostNetwork || s.HostIPC || s.HostUsers != nil && !*s.HostUsers {
		t.Errorf("host namespaces: %t, %t, %t", s.HostPID, s.HostNetwork, s.HostIPC)
	}
	if len(agent.Spec.Containers) != 1 || len(agent.Spec.InitContainers) != 0 {
		t.Fatal("the agent's pod has other containers")
	}
	main := agent.Spec.Containers[0]
	want := &corev1.SecurityContext{
		Privileged: new(bool), AllowPrivilegeEscalation: new(bool), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"SYS_ADMIN", "BPF", "PERFMON", "SYS_PTRACE", "SYS_NICE"}},
	}
	if diff := cmp.Diff(want, main.SecurityContext); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if p := agent.Spec.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("seccomp profile: %v", p)
	}
	var writable []string
	for _, v := range agent.Spec.Volumes {
		for _, m := range main.VolumeMounts {
			if m.Name == v.Name && v.HostPath != nil && !m.ReadOnly {
				writable = append(writable, v.HostPath.Path)
			}
		}
	}
	if diff := cmp.Diff([]string{"/run/containerhook"}, writable); diff != "" {
		t.Errorf("writable host paths, -want +got:\n%s", diff)
	}
}

func TestTheAgentsProcessesHaveWhatItsPodAsksFor(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	node := someNodes(t, 1)[0]
	p := processesOf(t, runningAgent(t, node, nil))
	for _, pid := range []string{p.first, p.gate, p.worker} {
		status := map[string]string{}
		for line := range strings.Lines(onNode(t, node, "cat", "/proc/"+pid+"/status")) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.TrimSpace(value)
		}
		all := fmt.Sprintf("%016x", capabilities)
		want := map[string]string{"CapBnd": all, "CapPrm": all, "CapEff": all, "CapInh": zeros, "CapAmb": zeros,
			"NoNewPrivs": "1", "Seccomp": "2", "Uid": "0\t0\t0\t0"}
		got := map[string]string{}
		for key := range want {
			got[key] = status[key]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pid %s, -want +got:\n%s", pid, diff)
		}
		for _, namespace := range []string{"pid", "net", "ipc", "uts", "mnt"} {
			if of := onNode(t, node, "readlink", "/proc/"+pid+"/ns/"+namespace); of == onNode(t, node, "readlink", "/proc/1/ns/"+namespace) {
				t.Errorf("pid %s is in the node's %s namespace", pid, namespace)
			}
		}
	}
}

const zeros = "0000000000000000"

func TestTheAgentCanWriteToItsCheckpointOnly(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	node := someNodes(t, 1)[0]
	first := processesOf(t, runningAgent(t, node, nil)).first
	root := "/proc/" + first + "/root"
	for dir, want := range map[string]bool{"/run/containerhook": true, "/": false, "/host/run": false, "/host/usr": false,
		"/host/usr/sbin": false, "/host/run/containerd": false} {
		file := root + dir + "/e2e-" + strconv.Itoa(len(dir))
		if got := onNode(t, node, "sh", "-c", `touch "$0" 2>/dev/null && rm "$0" && echo true || echo false`, file); got != strconv.FormatBool(want)+"\n" {
			t.Errorf("%s can be written to: %s", dir, got)
		}
	}
	if got := onNode(t, node, "sh", "-c", `(echo 1 >"$0") 2>/dev/null && echo true || echo false`, root+"/host/proc/sys/vm/drop_caches"); got != "false\n" {
		t.Error("/host/proc/sys can be written to")
	}
	// What is mounted below /run is as the node has it: propagation excludes that it is read-only. Below /proc it is where
	// the runtime cannot do better: Debian 12's crun.
	asOnTheNode := []string{"/host/run/"}
	if !mountsReadOnlyRecursively(t, node) {
		asOnTheNode = append(asOnTheNode, "/host/proc/")
	}
	// proc_pid_mountinfo(5): the third field is the file system, the fifth where it is mounted, the sixth how.
	ofNode := map[string]bool{}
	for line := range strings.Lines(onNode(t, node, "cat", "/proc/1/mountinfo")) {
		ofNode[strings.Fields(line)[2]] = true
	}
	var writable []string
	for line := range strings.Lines(onNode(t, node, "cat", "/proc/"+first+"/mountinfo")) {
		fields := strings.Fields(line)
		where, how := fields[4], strings.Split(fields[5], ",")
		if ofNode[fields[2]] && slices.Contains(how, "rw") && where != "/dev/shm" &&
			!slices.ContainsFunc(asOnTheNode, func(dir string) bool { return strings.HasPrefix(where, dir) }) {
			writable = append(writable, where)
		}
	}
	slices.Sort(writable)
	// The kubelet gives every pod files of its own for two of them.
	want := []string{"/dev/termination-log", "/etc/hosts", "/run/containerhook"}
	if diff := cmp.Diff(want, writable); diff != "" {
		t.Errorf("writable mounts of the node's file systems, -want +got:\n%s", diff)
	}
}

// mountsReadOnlyRecursively says whether a node's runtime says that it can.
func mountsReadOnlyRecursively(t *testing.T, name string) bool {
	t.Helper()
	var node corev1.Node
	if err := api.Get(t.Context(), client.ObjectKey{Name: name}, &node); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(node.Status.RuntimeHandlers, func(h corev1.NodeRuntimeHandler) bool {
		return h.Features != nil && h.Features.RecursiveReadOnlyMounts != nil && *h.Features.RecursiveReadOnlyMounts
	})
}
