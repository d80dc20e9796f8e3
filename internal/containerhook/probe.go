package containerhook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/rlimit"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/runtimes"
	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// Check is one thing that the agent needs of its node, or uses where it is there.
type Check struct {
	Name   string `json:"name"`
	Needed bool   `json:"needed"` // without it some containers, or all, are found by listing alone
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // what was found, or why it is not OK
}

// NewCheck is one that is OK where there is no error, and then has detail.
func NewCheck(name string, needed bool, detail string, err error) Check {
	if err != nil {
		return Check{name, needed, false, err.Error()}
	}
	return Check{name, needed, true, detail}
}

// probed are the capabilities of the agent's container, and whether nothing is held without it.
var probed = []struct {
	name   string
	number uint
	needed bool
}{{"SYS_ADMIN", unix.CAP_SYS_ADMIN, true}, {"BPF", unix.CAP_BPF, true}, {"PERFMON", unix.CAP_PERFMON, true},
	{"SYS_PTRACE", unix.CAP_SYS_PTRACE, true}, {"SYS_NICE", unix.CAP_SYS_NICE, false}}

// Probe tries what a Hook needs, and holds nothing meanwhile. Of the options it takes HostRoot, which runtimes to hold and
// which state to list.
func Probe(ctx context.Context, o Options) []Check {
	checks := append(probeKernel(), probeCapabilities()...)
	proc := filepath.Join(o.HostRoot, "proc")
	checks = append(checks, probePrograms(proc)...)
	checks = append(checks, NewCheck("realtime", false, "granted", gate.CheckRealtime()), probeCgroups(proc))

	host, err := hostfs.Open(o.HostRoot)
	if err != nil {
		return append(checks, NewCheck("host root", true, "", err))
	}
	defer host.Close()
	reads := hostfs.NewReads()
	return append(append(checks, probeRuntimes(ctx, host, o, reads)...), probeState(host, o, reads)...)
}

func probeKernel() []Check {
	var name unix.Utsname
	err := unix.Uname(&name)
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, scanErr := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && scanErr == nil && (major < 5 || major == 5 && minor < 10) {
		err = fmt.Errorf("%s is older than Linux 5.10", release)
	}
	return []Check{NewCheck("kernel", true, release, err)}
}

func probeCapabilities() (checks []Check) {
	var has [2]unix.CapUserData // struct __user_cap_data_struct of version 3: 32 bits each
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &has[0])
	for _, c := range probed {
		missing := err
		if missing == nil && has[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			missing = errors.New("missing")
		}
		checks = append(checks, NewCheck("capability "+c.name, c.needed, "", missing))
	}
	return checks
}

// probePrograms loads and attaches each BPF program. They follow nothing.
func probePrograms(hostProc string) []Check {
	kernel, err := task.KernelTypes()
	checks := []Check{NewCheck("BTF", true, "/sys/kernel/btf/vmlinux", err)}
	if err != nil {
		return checks
	}
	_ = rlimit.RemoveMemlock() // what it is for fails below
	lookup, err := task.OpenLookup(hostProc, kernel)
	checks = append(checks, NewCheck("BPF lookup", true, "who is held", err))
	if err != nil {
		return checks
	}
	defer lookup.Close()

	way := "copied by BPF"
	argv, err := task.OpenArgvReader(hostProc, kernel)
	if err != nil {
		way = "read from the task's memory, for no program can copy them before Linux 6.2: " + err.Error()
	}
	argv.Close()
	checks = append(checks, NewCheck("arguments", true, way, nil))

	filter := gate.CheckFilter(lookup, kernel)
	checks = append(checks, NewCheck("BPF filter", false, "execs that name no container are not the worker's", filter))

	tracer, err := task.OpenTracer(lookup, kernel)
	if err == nil {
		err = tracer.Close()
	}
	return append(checks, NewCheck("BPF tracer", true, "fork, exec, exit, OOM kill", err))
}

func probeCgroups(hostProc string) Check {
	raw, err := os.ReadFile(filepath.Join(hostProc, "1/cgroup"))
	version := "v1"
	switch lines := strings.Split(strings.TrimSpace(string(raw)), "\n"); {
	case len(lines) == 1:
		version = "v2"
	case strings.Contains(string(raw), "0::"):
		version = "v1, with v2 beside it (hybrid)"
	}
	return NewCheck("cgroup", false, version, err)
}

func probeRuntimes(ctx context.Context, host *hostfs.Root, o Options, reads *hostfs.Reads) []Check {
	group, err := gate.NewProber()
	if err != nil {
		return []Check{NewCheck("fanotify", true, "", err)}
	}
	defer group.Close()
	checks := []Check{NewCheck("fanotify", true, "permission events", nil)}
	r, err := runtimes.New(o.runtimes(host, reads, group, newMetrics(prometheus.NewRegistry(), reads)))
	if err != nil {
		return append(checks, NewCheck("runtimes", true, "", err))
	}
	defer r.Close()
	r.Discover()
	r.Scan(ctx)
	for _, path := range r.Paths() {
		checks = append(checks, NewCheck("runtime "+path, true, "can be marked", nil))
	}
	for _, unheld := range r.Unheld() {
		path, why, _ := strings.Cut(unheld, ": ")
		checks = append(checks, NewCheck("runtime "+path, true, "", errors.New(why)))
	}
	if len(r.Paths())+len(r.Unheld()) == 0 {
		checks = append(checks, NewCheck("runtimes", true, "", errors.New("none was found")))
	}
	return checks
}

func probeState(host *hostfs.Root, o Options, reads *hostfs.Reads) (checks []Check) {
	for dir, err := range oci.StateRoots(host, oci.StatePatterns(o.StateRoots, o.Rootless), reads) {
		var ids []string
		if err == nil {
			ids, err = hostfs.Within(reads, dir, func() ([]string, error) { return host.Names(dir) }, nil)
		}
		checks = append(checks, NewCheck("state "+dir, false, fmt.Sprintf("%d containers", len(ids)), err))
	}
	return checks
}
