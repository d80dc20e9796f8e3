package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// sysAdmin is CAP_SYS_ADMIN's bit in /proc/<pid>/status.
const sysAdmin = 1 << 21

// TestFactsAreWhatTheRuntimeTook: what runtimes read differently is published as the one that ran read it, or as missing. The
// kernel says what it was.
func TestFactsAreWhatTheRuntimeTook(t *testing.T) {
	n := newNode(t)
	a := n.startAgent()
	for _, c := range []struct {
		what    string
		runtime string
		edit    func(config string) string
		missing bool // the facts
	}{
		{what: "comments", runtime: n.crun, edit: func(s string) string { return "/* by hand */ " + s + "\n// end\n" }},
		{what: "capabilities in lower case", runtime: n.crun, edit: spelled},
		{what: "capabilities in lower case", runtime: n.runc, edit: spelled},
		{what: "no rules for devices", runtime: n.crun, edit: withoutDeviceRules},
		{what: "no rules for devices", runtime: n.runc, edit: withoutDeviceRules},
		{what: "a name twice", runtime: n.crun, missing: true, edit: twice("process")},
		{what: "a name twice", runtime: n.runc, edit: twice("process")},
		{what: "a name in two cases", runtime: n.crun, edit: twice("Process")},
		{what: "a name in two cases", runtime: n.runc, edit: twice("Process")},
	} {
		t.Run(c.what+", "+filepath.Base(c.runtime), func(t *testing.T) {
			n := *n
			n.t = t
			id, bundle := n.bundle([]string{"sleep"}, nil)
			path := filepath.Join(bundle, "config.json")
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.edit(string(raw))), 0o644); err != nil {
				t.Fatal(err)
			}
			n.remove(c.runtime, id)
			for _, args := range [][]string{{"create", "--bundle", bundle, id}, {"start", id}} {
				if code, out := n.do(c.runtime, args...); code != 0 {
					t.Fatalf("%s: %d: %s", args[0], code, out)
				}
			}

			got := a.wait(id, v1alpha1.StateRunning)
			facts := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionFactsMissing)
			if missing := facts != nil && strings.Contains(facts.Message, "a name twice"); missing != c.missing {
				t.Errorf("facts: %+v", facts)
			}
			if c.missing {
				if len(got.Spec.Capabilities) > 0 {
					t.Errorf("capabilities are published: %v", got.Spec.Capabilities)
				}
				return
			}
			has := boundingSet(t, got.Status.PID)&sysAdmin != 0
			if said := slices.Contains(got.Spec.Capabilities, "SYS_ADMIN"); said != has {
				t.Errorf("SYS_ADMIN: published %t, the kernel says %t", said, has)
			}
			if all := allDevices(t, got.Spec.CgroupsPath); all != nil && got.Spec.Security.AllDevices != *all {
				t.Errorf("all devices: published %t, the kernel says %t", got.Spec.Security.AllDevices, *all)
			}
			t.Logf("SYS_ADMIN %t, all devices %t", has, got.Spec.Security.AllDevices)
		})
	}
}

// spelled asks for SYS_ADMIN as libcap takes it, and runc does not.
func spelled(config string) string {
	return strings.ReplaceAll(config, `"CAP_KILL"`, `"cap_sys_admin"`)
}

// withoutDeviceRules takes the rules of the device cgroup away.
func withoutDeviceRules(config string) string {
	return strings.Replace(config, `"devices":`, `"notDevices":`, 1)
}

// twice adds a process with SYS_ADMIN by that name before the other.
func twice(name string) func(string) string {
	return func(config string) string {
		first := fmt.Sprintf(`{%q: {"user": {"uid": 0, "gid": 0}, "args": ["/probe", "sleep"], "cwd": "/", "capabilities": {"bounding": ["CAP_SYS_ADMIN"],
			"effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]}},`, name)
		return strings.Replace(config, "{", first, 1)
	}
}

// boundingSet is what the kernel says of a process.
func boundingSet(t *testing.T, pid int32) uint64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapBnd:")
	set, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// allDevices is what cgroup v1's device controller says; nil where there is none.
func allDevices(t *testing.T, cgroup string) *bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/devices", cgroup, "devices.list"))
	if err != nil {
		return nil
	}
	all := strings.HasPrefix(string(raw), "a *:* rwm")
	return &all
}
