package kernel

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// opening are the calls into the kernel that can wait for a file system, or for another machine.
var opening = map[uint32]string{
	unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_OPEN_BY_HANDLE_AT: "open_by_handle_at",
	unix.SYS_NAME_TO_HANDLE_AT: "name_to_handle_at", unix.SYS_FACCESSAT: "faccessat", unix.SYS_READLINKAT: "readlinkat",
	unix.SYS_STATFS: "statfs", unix.SYS_STATX: "statx", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT2: "renameat2",
	unix.SYS_MKDIRAT: "mkdirat", unix.SYS_CHDIR: "chdir", unix.SYS_EXECVE: "execve", unix.SYS_EXECVEAT: "execveat",
	unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_BIND: "bind", unix.SYS_ACCEPT4: "accept4",
}

// systemCall is one kind of call by one process of a PID namespace.
type systemCall struct{ PID, Number uint32 }

// callTrace counts the system calls of a PID namespace's processes.
type callTrace struct {
	t       *testing.T
	counts  *ebpf.Map
	program link.Link
}

// traceCalls begins to count, in the PID namespace of a process. What is between fork and exec has a pid of its own.
func traceCalls(t *testing.T, pid int) *callTrace {
	t.Helper()
	var namespace unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &namespace); err != nil {
		t.Fatal(err)
	}
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	const ids, key, one = -8, -16, -24 // on the stack: struct bpf_pidns_info, systemCall, its first count
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord), // the number: sys_enter(struct pt_regs *, long)
		asm.LoadImm(asm.R1, int64(namespace.Dev), asm.DWord),
		asm.LoadImm(asm.R2, int64(namespace.Ino), asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, ids),
		asm.Mov.Imm(asm.R4, 8),
		asm.FnGetNsCurrentPidTgid.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"), // another namespace's
		asm.LoadMem(asm.R7, asm.RFP, ids+4, asm.Word),
		asm.StoreMem(asm.RFP, key, asm.R7, asm.Word),
		asm.StoreMem(asm.RFP, key+4, asm.R6, asm.Word),

		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "first"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Ja.Label("end"),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("first"),
		asm.StoreMem(asm.RFP, one, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, one),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer program.Close()
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: program})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attached.Close(); counts.Close() })
	return &callTrace{t, counts, attached}
}

// of returns how often a process made each call that is in opening, and how many calls it made in all. pid is the host's.
func (c *callTrace) of(pid int) (opened map[string]uint64, all uint64) {
	c.t.Helper()
	inside := uint32(innerPID(c.t, pid))
	opened = map[string]uint64{}
	entries := c.counts.Iterate()
	var key systemCall
	var count uint64
	for entries.Next(&key, &count) {
		if key.PID != inside {
			continue
		}
		all += count
		if name := opening[key.Number]; name != "" {
			opened[name] += count
		}
	}
	if err := entries.Err(); err != nil {
		c.t.Fatal(err)
	}
	return opened, all
}

// innerPID is what a process is called in its own PID namespace.
func innerPID(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			all := strings.Fields(rest)
			inner, err := strconv.Atoi(all[len(all)-1])
			if err != nil {
				t.Fatal(err)
			}
			return inner
		}
	}
	t.Fatalf("pid %d has no NSpid", pid)
	return 0
}

// TestTheGateOpensNothingOnceItIsReady: while containers come and go, runtimes are replaced, and its workers are killed and
// started. The same trace sees what the workers open.
func TestTheGateOpensNothingOnceItIsReady(t *testing.T) {
	t.Parallel()
	rounds := machine.Volume(2, 7) // each worker waits twice as long as the one before
	n := newNode(t)
	a := n.startAgent("--deadline", "1s", "--list-interval", "1s")
	gate := a.gate()
	trace := traceCalls(t, gate)
	workers, opened := 0, map[string]uint64{}
	for round := range rounds {
		worker := a.worker()
		for _, runtime := range []string{n.runc, n.crun} {
			id, bundle := n.bundle([]string{"exit", "7"}, nil)
			if code, out := n.do(runtime, "run", "--bundle", bundle, id); code != 7 {
				t.Fatalf("run: exit code %d: %s", code, out)
			}
			a.wait(id, v1alpha1.StateStopped)
		}
		copyFile(t, n.runc, n.runc+".new")
		if err := os.Rename(n.runc+".new", n.runc); err != nil {
			t.Fatal(err)
		}
		of, _ := trace.of(worker)
		for name, count := range of {
			opened[name] += count
		}
		workers++
		send(t, worker, []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT}[round%2])()
		a.eventually("with another worker", func() error {
			if got, err := a.tryMetric("containerhook_worker_restarts_total"); err != nil || got != float64(round+1) {
				return fmt.Errorf("%v restarts: %w", got, err)
			}
			return a.probe("/readyz")
		})
	}
	of, all := trace.of(gate)
	if len(of) > 0 {
		t.Errorf("the gate made the calls %v", of)
	}
	if all == 0 {
		t.Error("no call of the gate was traced")
	}
	if opened["openat2"] == 0 || opened["openat"] == 0 || opened["accept4"] == 0 {
		t.Errorf("the workers made the calls %v only: they open files and serve metrics", opened)
	}
	t.Logf("%d calls by the gate, none of %v; %d workers made %v", all, slices.Sorted(maps.Values(opening)), workers, opened)
}
