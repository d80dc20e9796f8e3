package kernel

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// usage is what an agent's gate and worker have of the machine.
type usage struct {
	gate, worker                                     process
	descriptors, marks, followed, memcgs, goroutines int // descriptors of both, goroutines of the worker
	rss                                              int // of both, KiB
}

// process is what one process has.
type process struct{ descriptors, threads, rss, pss int } // KiB

func (p process) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, RSS %.1f, PSS %.1f MiB", p.descriptors, p.threads, float64(p.rss)/1024, float64(p.pss)/1024)
}

func (u usage) String() string {
	return fmt.Sprintf("%d marks, %d followed processes and %d memory cgroups in maps; gate: %v; worker: %v, %d goroutines",
		u.marks, u.followed, u.memcgs, u.gate, u.worker, u.goroutines)
}

// usage looks at both processes from outside, but for the worker's goroutines.
func (a *agent) usage() usage {
	a.t.Helper()
	gate, worker := a.gate(), a.worker()
	u := usage{goroutines: int(a.metric("go_goroutines")), gate: a.process(gate), worker: a.process(worker), marks: len(a.marks())}
	u.descriptors, u.rss = u.gate.descriptors+u.worker.descriptors, u.gate.rss+u.worker.rss

	for _, pid := range []int{gate, worker} { // each has both maps open
		maps := map[string]int{}
		for line := range a.fdinfo(pid) {
			if value, ok := strings.CutPrefix(line, "map_id:"); ok {
				name, entries := mapEntries(a.t, strings.TrimSpace(value))
				maps[name] = entries
			}
		}
		for _, name := range []string{"followed", "memcgs"} {
			if _, found := maps[name]; !found {
				a.t.Fatalf("pid %d has no map %q, but %v", pid, name, maps)
			}
		}
		u.followed, u.memcgs = maps["followed"], maps["memcgs"]
	}
	return u
}

// fdinfo are the lines that the kernel has about a process's descriptors.
func (a *agent) fdinfo(pid int) iter.Seq[string] {
	a.t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil || len(infos) == 0 {
		a.t.Fatalf("the descriptors of pid %d cannot be listed: %v", pid, err)
	}
	var all strings.Builder
	for _, name := range infos {
		info, _ := os.ReadFile(name) // it may be closed by now
		all.Write(info)
	}
	return strings.Lines(all.String())
}

func (a *agent) process(pid int) process {
	a.t.Helper()
	infos, err := os.ReadDir(fmt.Sprintf("/proc/%d/fdinfo", pid))
	if err != nil {
		a.t.Fatal(err)
	}
	return process{descriptors: len(infos), threads: memory(a.t, pid, "status", "Threads:"), rss: rss(a.t, pid),
		pss: memory(a.t, pid, "smaps_rollup", "Pss:")}
}

// mapEntries counts the entries of a hash map; 0 for another one.
func mapEntries(t *testing.T, id string) (name string, entries int) {
	t.Helper()
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMapFromID(ebpf.MapID(number))
	if err != nil {
		t.Fatalf("open map %d: %v", number, err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		t.Fatalf("ask about map %d: %v", number, err)
	}
	if m.Type() != ebpf.Hash {
		return info.Name, 0
	}
	all := m.Iterate()
	for key, value := []byte{}, []byte{}; all.Next(&key, &value); {
		entries++
	}
	if err := all.Err(); err != nil {
		t.Fatalf("read map %q: %v", info.Name, err)
	}
	return info.Name, entries
}

// rss is how much memory of a process is resident, in KiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	return memory(t, pid, "status", "VmRSS:")
}

// memory is a figure of a process, in KiB: of its status VmRSS:, or VmHWM: for the most that ever was resident.
func memory(t *testing.T, pid int, file, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("%s of pid %d has no %s", file, pid, name)
	return 0
}

// idleReaders is how many goroutines of a worker may wait for held execs, rather than one.
const idleReaders = 4

// grown reports whether anything is kept since before that has no bound: descriptors or goroutines.
func (u usage) grown(before usage) bool {
	return u.descriptors > before.descriptors || u.goroutines > before.goroutines+idleReaders
}

// idle waits until nothing is followed any more and nothing has grown since before; it returns what is there at last.
func (a *agent) idle(before usage) (u usage) {
	a.t.Helper()
	_ = poll(20*time.Second, func() error {
		u = a.usage()
		if u.followed+u.memcgs > 0 || u.grown(before) {
			return errors.New("not idle")
		}
		return nil
	})
	return u
}

// light is a container that costs little: a PID, a mount and an IPC namespace, a cgroup in every hierarchy, two mounts.
func light(s *specs.Spec) {
	s.Hostname = ""
	s.Mounts = s.Mounts[:2] // proc and dev
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Linux.Seccomp = nil, nil, nil
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}}
}

// apart has argv run where the hybrid hierarchy of cgroups is taken apart, as node.command does for a single crun.
func apart(argv ...string) []string {
	if !hybrid() {
		return argv
	}
	return append([]string{"unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified && exec "$0" "$@"`}, argv...)
}

// runMany runs containers one after another from one bundle, by one shell; their IDs end in the numbers from and up.
func (n *node) runMany(runtime, id, bundle string, from, to int) error {
	script := `i=$1; while [ $i -lt $2 ]; do "$0" --root "$3" run --bundle "$4" "$5-$i" || exit 1; i=$((i+1)); done`
	argv := []string{"sh", "-c", script, runtime, strconv.Itoa(from), strconv.Itoa(to), n.stateRoot, bundle, id}
	if runtime == n.crun {
		argv = apart(argv...)
	}
	most := limit + time.Duration(to-from)*time.Second // nothing that runs needs a second
	if said, err := bounded(most, exec.Command(argv[0], argv[1:]...)); err != nil {
		return fmt.Errorf("run %s-%d to %d with %s: %w: %s", id, from, to, filepath.Base(runtime), err, lastOf(said))
	}
	return nil
}

func TestContainersThatAreGoneLeaveNothingInTheAgent(t *testing.T) {
	early, count := machine.Volume(100, 2_000), machine.Volume(500, 10_000)
	n := newNode(t)
	for _, dir := range []string{"proc", "dev", "sys"} { // crun makes what is missing, in parallel
		if err := os.MkdirAll(filepath.Join(n.rootfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	type line struct{ runtime, id, bundle string }
	var lines []line
	for _, runtime := range []string{n.crun, n.crun, n.crun, n.runc} {
		id, bundle := n.bundle([]string{"exit", "0"}, light)
		lines = append(lines, line{runtime, id, bundle})
	}
	a := n.startAgent("-v", "0")
	run := func(from, to int) {
		var all sync.WaitGroup
		for _, l := range lines {
			all.Go(func() {
				if err := n.runMany(l.runtime, l.id, l.bundle, from/len(lines), to/len(lines)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for _, l := range lines {
			for i := from / len(lines); i < to/len(lines); i++ {
				a.wait(fmt.Sprintf("%s-%d", l.id, i), v1alpha1.StateStopped)
			}
		}
	}
	before := a.usage()
	began := time.Now()
	run(0, early)
	first := a.idle(before)
	run(early, count)
	took := time.Since(began)
	after := a.idle(before)
	t.Logf("before: %v", before)
	t.Logf("after %d containers: %v", early, first)
	t.Logf("after %d containers, %.0f a second: %v", count, float64(count)/took.Seconds(), after)

	// Equal, but for memory, which is the kernel's and the collector's to round.
	if after.grown(before) || after.marks != before.marks || after.followed+after.memcgs > 0 {
		t.Errorf("left: %v, want %v", after, before)
	}
	if grown := after.rss - first.rss; grown > 4<<10 {
		t.Errorf("the RSS grew by %d KiB over the last %d containers", grown, count-early)
	}
}
