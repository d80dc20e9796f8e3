package containerhook

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// processes looks at the processes of the host, and has the ends of inits reported. Safe for concurrent use.
type processes struct {
	hostProc string
	programs *task.Programs
	rootless bool // users' containers are reported too
	metrics  *metrics
}

var errNotTheirs = errors.New("a user's state names a process that is not that user's, or rootless ones are not asked for")

// follow has the end of an init reported, and its exec where it waits for start. An error says that it has ended.
func (p *processes) follow(t task.Task, waiting bool) error {
	if p.programs.Tracer == nil {
		return nil // the sweep will find it dead
	}
	if err := p.programs.Tracer.FollowInit(&t, waiting); err != nil {
		p.metrics.unread("follow")
		return nil
	}
	again, err := p.programs.Lookup.OfPID(p.hostProc, int32(t.Tgid))
	if err == nil && again.StartBoottime != t.StartBoottime {
		err = task.ErrGone
	}
	return err
}

// identify looks at the process that a runtime's state names.
func (p *processes) identify(state oci.State) (task.Task, error) {
	t, err := p.look(state.PID)
	if err != nil {
		return task.Task{}, fmt.Errorf("look at pid %d: %w", state.PID, err)
	}
	if ticks := t.Process().StartTicks; state.StartTicks != 0 && state.StartTicks != ticks {
		return task.Task{}, fmt.Errorf("pid %d began at tick %d, not %d: %w", state.PID, ticks, state.StartTicks, task.ErrGone)
	}
	return t, nil
}

// look asks the kernel about a pid of the host; without BPF, its procfs, which has less.
func (p *processes) look(pid int32) (task.Task, error) {
	if p.programs.Lookup != nil {
		return p.programs.Lookup.OfPID(p.hostProc, pid)
	}
	stat, err := os.ReadFile(filepath.Join(p.hostProc, strconv.Itoa(int(pid)), "stat"))
	if err != nil {
		return task.Task{}, err
	}
	// "pid (comm) state …": comm may hold anything, blanks and brackets too. Field 22 is the start, in ticks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return task.Task{}, task.ErrGone
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return task.Task{LookupTask: bpf.LookupTask{Tgid: uint32(pid), StartBoottime: ticks * (1e9 / task.UserHZ)}}, err
}

// believe says whether a state may name that process. Root's word counts; a user could name any pid.
func (p *processes) believe(state oci.State) error {
	if state.UID == 0 {
		return nil
	}
	owner, err := p.ownerOfNamespace(state.PID)
	if err == nil && (owner != state.UID || !p.rootless) {
		return errNotTheirs
	}
	return err
}

// isGone says whether err is that a process is dead, and not that it could not be looked at.
func isGone(err error) bool {
	return errors.Is(err, task.ErrGone) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// ownerOfNamespace is the user who made the user namespace that a pid of the host is in: 0 for the initial one.
func (p *processes) ownerOfNamespace(pid int32) (uid uint32, err error) {
	name := filepath.Join(p.hostProc, strconv.Itoa(int(pid)), "ns/user")
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer hostfs.CloseFD(fd)
	if uid, err = unix.IoctlGetUint32(fd, nsGetOwnerUID); err != nil {
		return 0, fmt.Errorf("ask whose user namespace pid %d is in: %w", pid, err)
	}
	return uid, nil
}

// nsGetOwnerUID is NS_GET_OWNER_UID of linux/nsfs.h (4.11, 6ad92bf63e45).
const nsGetOwnerUID = 0xb704
