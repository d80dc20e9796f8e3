package runtimes

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
)

const hostsRoot = "Name:\tx\nUid:\t0\t0\t0\t0\nNSpid:\t4711\n"

// procTree makes the procfs of one process, whose binary is at bin/<comm> below dir.
func procTree(t *testing.T, dir, comm, status, cmdline string) (hostProc string) {
	t.Helper()
	hosttest.MakeTree(t, dir, map[string]string{
		"bin/" + comm: "binary", "proc/4711/comm": comm + "\n", "proc/4711/status": status,
		"proc/4711/cmdline": strings.ReplaceAll(cmdline, " ", "\x00") + "\x00",
		"proc/4711/exe":     "-> " + filepath.Join(dir, "bin", comm), "proc/4711/cwd": "-> " + dir,
		"proc/self": "-> 4711", "proc/1/comm": "init\n", "proc/42": "/", // one that is gone
	})
	return filepath.Join(dir, "proc")
}

const conmonLine = "/usr/bin/conmon --api-version 1 -c ID -u ID -n web -r /opt/bin/crun -b /b --runtime-arg --root --runtime-arg /run/x"

func TestUsedRuntimesAreThoseThatRunningMonitorsName(t *testing.T) {
	for name, test := range map[string]struct{ comm, cmdline, bundle, want string }{
		"conmon":           {"conmon", conmonLine, "", "/opt/bin/crun BIN/conmon"},
		"conmon for exec":  {"conmon", conmonLine + " -e", "", "BIN/conmon"},
		"a relative path":  {"conmon", "conmon -c ID -n web -r ./crun", "", "BIN/conmon"},
		"containerd's":     {"containerd-shim", "containerd-shim-runc-v2 -id ID", "/usr/local/bin/my-runc", "/usr/local/bin/my-runc"},
		"a base name":      {"containerd-shim", "containerd-shim-runc-v2 -id ID", "crun", "crun"},
		"the default":      {"containerd-shim", "containerd-shim-runc-v2 -id ID", "", ""},
		"no monitor":       {"containerd", "containerd-shim-runc-v2", "crun", ""},
		"conmon by argv":   {"sh", conmonLine, "", ""},
		"a path in itself": {"containerd-shim", "containerd-shim-runc-v2", "../../crun", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			proc := procTree(t, dir, test.comm, hostsRoot, test.cmdline)
			hosttest.MakeTree(t, dir, map[string]string{"runtime": test.bundle})
			want := strings.Fields(strings.ReplaceAll(test.want, "BIN", filepath.Join(dir, "bin")))
			if diff := cmp.Diff(want, strings.Fields(strings.Join(usedRuntimes(hosttest.Open(t, hostfs.Open, "/"), proc), " "))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMonitorsTellWhatConmonWasTold(t *testing.T) {
	dir := t.TempDir()
	proc := procTree(t, dir, "conmon", hostsRoot, conmonLine)
	got := slices.Collect(Monitors(hosttest.Open(t, hostfs.Open, "/"), proc))
	want := []oci.Command{
		{Verb: oci.VerbNamed, ID: "ID", Name: "web", Root: "/run/x", Bundle: "/b", Runtime: "/opt/bin/crun"},
		{Runtime: filepath.Join(dir, "bin/conmon")},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(oci.Command{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for range Monitors(hosttest.Open(t, hostfs.Open, "/"), proc) {
		break // a reader that has enough
	}
}

// TestMonitorsDoNotBelieveWhoIsNotTheHosts: a user's process, or a container's, can have any name and any arguments.
func TestMonitorsDoNotBelieveWhoIsNotTheHosts(t *testing.T) {
	for name, status := range map[string]string{
		"a user's":                   strings.Replace(hostsRoot, "0\t0\t0\t0", "1000\t1000\t1000\t1000", 1),
		"setuid, run by a user":      strings.Replace(hostsRoot, "0\t0\t0\t0", "1000\t0\t0\t0", 1),
		"root that became a user":    strings.Replace(hostsRoot, "0\t0\t0\t0", "0\t1000\t1000\t1000", 1),
		"a container's":              strings.Replace(hostsRoot, "4711", "4711\t1", 1),
		"one that cannot be read of": "",
	} {
		t.Run(name, func(t *testing.T) {
			proc := procTree(t, t.TempDir(), "conmon", status, conmonLine)
			if got := usedRuntimes(hosttest.Open(t, hostfs.Open, "/"), proc); got != nil {
				t.Errorf("believed %q", got)
			}
		})
	}
	t.Run("of a binary that is not in the host's root", func(t *testing.T) {
		proc := procTree(t, t.TempDir(), "conmon", hostsRoot, conmonLine)
		if got := usedRuntimes(hosttest.Open(t, hostfs.Open, t.TempDir()), proc); got != nil {
			t.Errorf("believed %q", got)
		}
	})
	t.Run("of a binary where the host has another one", func(t *testing.T) {
		dir, host := t.TempDir(), t.TempDir()
		proc := procTree(t, dir, "conmon", hostsRoot, conmonLine)
		hosttest.MakeTree(t, host, map[string]string{filepath.Join(dir, "bin/conmon"): "another"})
		if got := usedRuntimes(hosttest.Open(t, hostfs.Open, host), proc); got != nil {
			t.Errorf("believed %q", got)
		}
	})
}

func TestUsedRuntimesAreBounded(t *testing.T) {
	dir := t.TempDir()
	proc := procTree(t, dir, "conmon", hostsRoot, conmonLine)
	for i := range maxUsed + 10 {
		number := strconv.Itoa(10_000 + i)
		hosttest.MakeTree(t, filepath.Join(proc, number), map[string]string{"comm": "conmon\n", "status": hostsRoot,
			"exe":     "-> " + filepath.Join(dir, "bin/conmon"),
			"cmdline": strings.ReplaceAll("conmon -c ID -r /opt/crun-"+number, " ", "\x00")})
	}
	if got := usedRuntimes(hosttest.Open(t, hostfs.Open, "/"), proc); len(got) != maxUsed {
		t.Errorf("%d are used, want %d", len(got), maxUsed)
	}
}
