package containerhook

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/hook"
)

// task is what the kernel says of one task. Its pids are the host's, and 0 where the host cannot see it.
type task struct {
	bpf.WhoTask
	argv      uint64 // of the execve that it is in: a pointer in its address space; 0 when it is in none
	globalTID uint32 // in the initial PID namespace, for bpf_task_from_pid
	hostPIDNS uint32 // the PID namespace above it that is as deep as the host's
}

// process is the identity and the facts of the process that t belongs to.
func (t *task) process() hook.Process { return processOf(&t.WhoTask) }

func processOf(t *bpf.WhoTask) hook.Process {
	return hook.Process{
		PID:        int32(t.Tgid),
		StartTicks: t.StartBoottime / (1e9 / userHZ),
		CgroupID:   t.Cgroup,
		Namespaces: hook.Namespaces{Cgroup: t.CgroupNs, IPC: t.IpcNs, Mount: t.MntNs, Network: t.NetNs,
			PID: t.PidNs, User: t.UserNs, UTS: t.UtsNs},
	}
}

// userHZ is the unit of every time in /proc/<pid>/stat: 100 a second on all architectures that Linux serves with Go.
const userHZ = 100

var (
	errTaskGone = errors.New("the task is gone")
	errNoEvent  = errors.New("no such event waits")
)

// who asks the kernel about tasks that no pid of ours can name (bpf/who.bpf.c). Safe for concurrent use.
type who struct {
	hostLevel, hostPIDNS uint32
	hostNamespaces       hook.Namespaces // of the host's process 1

	mu    sync.Mutex // guards everything below: there is one answer at a time
	objs  bpf.WhoObjects
	nonce uint64
}

// newWho loads the programs and learns which PID namespace is the host's. hostProc is the host's procfs.
func newWho(hostProc string) (*who, error) {
	spec, err := bpf.LoadWho()
	if err != nil {
		return nil, fmt.Errorf("read the who programs: %w", err)
	}
	page := uint32(os.Getpagesize())
	if err := errors.Join(spec.Variables[bpf.WhoVarPageSize].Set(page),
		spec.Variables[bpf.WhoVarThreadSize].Set(max(page, 16<<10))); err != nil {
		return nil, fmt.Errorf("set the sizes of pages and stacks: %w", err)
	}
	w := &who{}
	if err := spec.LoadAndAssign(&w.objs, nil); err != nil {
		return nil, fmt.Errorf("load the who programs: %w", err)
	}
	if err := w.findHost(hostProc); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close unloads the programs.
func (w *who) Close() error { return w.objs.Close() }

// findHost learns the depth and the inode of the PID namespace that hostProc was mounted for. Seen from there we have
// as many numbers below it as NSpid lists, and the kernel says how deep we are: no guess by comparing pids.
func (w *who) findHost(hostProc string) error {
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
	me, err := w.owner(self)
	if err != nil {
		return fmt.Errorf("ask who we are: %w", err)
	}
	w.hostLevel = me.Level - depth
	if err := w.objs.HostLevel.Set(w.hostLevel); err != nil {
		return fmt.Errorf("set the host's level: %w", err)
	}
	init, err := w.ownerOf(hostProc, 1)
	if err != nil {
		return fmt.Errorf("ask about the host's process 1: %w", err)
	}
	w.hostPIDNS, w.hostNamespaces = init.hostPIDNS, init.process().Namespaces
	return w.objs.HostPidns.Set(w.hostPIDNS)
}

// waits says which task the event that group returned with descriptor event holds. The caller keeps every other read
// and answer of the group away meanwhile.
func (w *who) waits(group, event int) (task, error) {
	return w.ask(w.objs.Waits, uint64(group), uint64(event))
}

// owner says whose directory dir is in a procfs, for example /host/proc/4711.
func (w *who) owner(dir string) (task, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return task{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return w.ask(w.objs.Owns, uint64(fd))
}

// ownerOf is owner for a pid of the host.
func (w *who) ownerOf(hostProc string, pid int32) (task, error) {
	return w.owner(hostProc + "/" + strconv.Itoa(int(pid)))
}

func (w *who) ask(program *ebpf.Program, args ...uint64) (task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nonce++
	// A raw tracepoint's test run takes twelve arguments at most; the question's number is the last.
	if _, err := program.Run(&ebpf.RunOptions{Context: append(args, w.nonce)}); err != nil {
		return task{}, fmt.Errorf("ask the kernel: %w", err)
	}
	var a bpf.WhoAnswer
	if err := w.objs.Found.Get(&a); err != nil {
		return task{}, fmt.Errorf("read the kernel's answer: %w", err)
	}
	if a.Nonce != w.nonce {
		return task{}, fmt.Errorf("read the kernel's answer: it is the one to question %d, not %d", a.Nonce, w.nonce)
	}
	t := task{WhoTask: a.Task, argv: a.Argv, globalTID: a.GlobalTid, hostPIDNS: a.HostPidns}
	switch bpf.WhoStatus(a.Status) {
	case bpf.WhoStatusFOUND:
		return t, nil
	case bpf.WhoStatusGONE:
		return t, errTaskGone
	case bpf.WhoStatusNO_EVENT:
		return t, errNoEvent
	default:
		return t, fmt.Errorf("ask the kernel: status %d", a.Status)
	}
}
