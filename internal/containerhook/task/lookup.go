package task

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/event"
)

// Task is what the kernel says of one task. Its pids are the host's, and 0 where the host cannot see it. It holds no
// pointer: messages carry it as it is.
type Task struct {
	bpf.LookupTask
	Argv      uint64 // of the execve that it is in: a pointer in its address space; 0 when it is in none
	GlobalTID uint32 // in the initial PID namespace, for bpf_task_from_pid
	HostPIDNS uint32 // inode of the PID namespace above it that is as deep as the host's
	Quiet     uint32 // 1 where the arguments of the execve name no container; 0 where they may
}

// Process is the identity and the facts of the process that t belongs to.
func (t *Task) Process() event.Process { return ProcessOf(&t.LookupTask) }

// ProcessOf is Process for what the tracer reports.
func ProcessOf(t *bpf.LookupTask) event.Process {
	return event.Process{
		PID:        int32(t.Tgid),
		StartTicks: t.StartBoottime / (1e9 / UserHZ),
		CgroupID:   t.Cgroup,
		Namespaces: event.Namespaces{Cgroup: t.CgroupNs, IPC: t.IpcNs, Mount: t.MntNs, Network: t.NetNs,
			PID: t.PidNs, User: t.UserNs, UTS: t.UtsNs},
	}
}

// UserHZ is the unit of every time in /proc/<pid>/stat: 100 a second on all architectures that Linux serves with Go.
const UserHZ = 100

var (
	// ErrGone is that a task has ended.
	ErrGone = errors.New("the task is gone")
	// ErrNoEvent is that no permission event with that descriptor waits for an answer.
	ErrNoEvent = errors.New("no such event waits")
)

// Lookup asks the kernel about tasks that no pid of ours can name (bpf/lookup.bpf.c). Safe for concurrent use, one
// question at a time; OfEvent has its own rule.
type Lookup struct {
	// HostNamespaces are those of the host's process 1.
	HostNamespaces event.Namespaces

	hostLevel, hostPIDNS uint32

	ofEvent, ofProcDir *ebpf.Program
	bss, quiet         *ebpf.Map
	answerAt           int64 // offset of the answer in bss

	mu     sync.Mutex // guards the call and its answer
	call   run
	nonce  uint64
	answer bpf.LookupAnswer
}

// OpenLookup loads the programs and learns which PID namespace is the host's. hostProc is the host's procfs, kernel are
// the types of the running kernel (KernelTypes).
func OpenLookup(hostProc string, kernel *btf.Spec) (*Lookup, error) {
	spec, err := bpf.LoadLookup()
	if err != nil {
		return nil, fmt.Errorf("read the lookup programs: %w", err)
	}
	if err := setSizes(spec.Variables[bpf.LookupVarPageSize], spec.Variables[bpf.LookupVarThreadSize]); err != nil {
		return nil, err
	}
	found := spec.Variables[bpf.LookupVarFound]

	collection, err := load(spec, kernel)
	if err != nil {
		return nil, fmt.Errorf("load the lookup programs: %w", err)
	}
	defer collection.Close() // closes what is not detached below

	l := &Lookup{ofEvent: collection.DetachProgram(bpf.LookupProgTaskOfEvent),
		ofProcDir: collection.DetachProgram(bpf.LookupProgTaskOfProcdir),
		bss:       collection.DetachMap(found.SectionName), answerAt: int64(found.Offset),
		quiet: collection.DetachMap(bpf.LookupMapQuiet)}
	if err := l.findHost(hostProc, collection.Variables[bpf.LookupVarHostLevel], collection.Variables[bpf.LookupVarHostPidns]); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// setSizes sets the sizes of pages and stacks, which are in no type of the kernel's.
func setSizes(pageSize, threadSize *ebpf.VariableSpec) error {
	page := uint32(os.Getpagesize())
	if err := errors.Join(pageSize.Set(page), threadSize.Set(max(page, 16<<10))); err != nil {
		return fmt.Errorf("set the sizes of pages and stacks: %w", err)
	}
	return nil
}

// Close unloads the programs.
func (l *Lookup) Close() error {
	return errors.Join(l.ofEvent.Close(), l.ofProcDir.Close(), l.bss.Close(), l.quiet.Close())
}

// findHost learns the depth and the inode of the PID namespace that hostProc was mounted for. Seen from there we have
// as many numbers below it as NSpid lists, and the kernel says how deep we are: no guess by comparing pids.
func (l *Lookup) findHost(hostProc string, level, pidns *ebpf.Variable) error {
	self := hostProc + "/self"
	status, err := os.ReadFile(self + "/status")
	if err != nil {
		return fmt.Errorf("find ourselves in %q (is it the host's procfs, of a PID namespace above ours?): %w", hostProc, err)
	}
	depth := uint32(0)
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			depth = uint32(len(strings.Fields(numbers))) - 1
		}
	}

	me, err := l.OfProcDir(self)
	if err != nil {
		return fmt.Errorf("look up ourselves: %w", err)
	}
	l.hostLevel = me.Level - depth
	if err := level.Set(l.hostLevel); err != nil {
		return fmt.Errorf("set the host's level: %w", err)
	}

	init, err := l.OfPID(hostProc, 1)
	if err != nil {
		return fmt.Errorf("look up the host's process 1: %w", err)
	}
	l.hostPIDNS, l.HostNamespaces = init.HostPIDNS, init.Process().Namespaces
	return pidns.Set(l.hostPIDNS)
}

// OfEvent looks up the task that the event held which group returned with the descriptor event. It must run in the
// goroutine that alone reads and answers that group: it walks the group's list of events that wait, which both change.
func (l *Lookup) OfEvent(group, event int) (Task, error) {
	return l.ask(l.ofEvent, uint64(group), uint64(event))
}

// OfProcDir looks up the process whose directory dir is in a procfs, for example /host/proc/4711.
func (l *Lookup) OfProcDir(dir string) (Task, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Task{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return l.ask(l.ofProcDir, uint64(fd))
}

// OfPID is OfProcDir for a pid of the host.
func (l *Lookup) OfPID(hostProc string, pid int32) (Task, error) {
	return l.OfProcDir(hostProc + "/" + strconv.Itoa(int(pid)))
}

func (l *Lookup) ask(program *ebpf.Program, args ...uint64) (Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Another process may share the answer's memory after a restart: the nonce is not to begin at its.
	l.nonce++
	nonce := l.nonce<<32 | uint64(uint32(os.Getpid()))

	if err := l.call.program(program.FD(), append(args, nonce)...); err != nil {
		return Task{}, fmt.Errorf("ask the kernel: %w", err)
	}
	memory, err := l.bss.Memory()
	if err != nil {
		return Task{}, fmt.Errorf("map the kernel's answer: %w", err)
	}
	a := &l.answer
	if _, err := memory.ReadAt(bytesOf(a), l.answerAt); err != nil {
		return Task{}, fmt.Errorf("read the kernel's answer: %w", err)
	}
	if a.Nonce != nonce {
		return Task{}, fmt.Errorf("read the kernel's answer: it is the one to question %d, not %d", a.Nonce, nonce)
	}

	t := Task{LookupTask: a.Task, Argv: a.Argv, GlobalTID: a.GlobalTid, HostPIDNS: a.HostPidns, Quiet: a.Quiet}
	switch bpf.LookupStatus(a.Status) {
	case bpf.LookupStatusFOUND:
		return t, nil
	case bpf.LookupStatusGONE:
		return t, ErrGone
	case bpf.LookupStatusNO_EVENT:
		return t, ErrNoEvent
	default:
		return t, fmt.Errorf("ask the kernel: status %d", a.Status)
	}
}

// KernelTypes reads the types of the running kernel. They take some MiB while they are referred to.
func KernelTypes() (*btf.Spec, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	return types, nil
}

func load(spec *ebpf.CollectionSpec, kernel *btf.Spec) (*ebpf.Collection, error) {
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: kernel}})
}

// bytesOf is the memory of a value that has no pointers: the structures of bpf/ are laid out as the kernel's.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
