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
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
)

// resolve answers the tracker's request for an init: as the runtime's state names it, and the kernel describes it. From
// then on its end is reported.
func (h *Hook) resolve(of tracker.Instance) tracker.Resolved {
	in := tracker.Resolved{Of: of}
	state, err := h.readState(of.Root, of.ID)
	if err == nil && state.UID == of.UID {
		var t task.Task
		if t, err = h.identify(state); err == nil && h.believe(state) == nil && h.follow(t, state.Waiting) == nil {
			in.Init, in.Waiting = t.Process(), state.Waiting
		}
	}
	in.At = time.Now()
	return in
}

// readState reads what a runtime keeps of a container in the host's root, and waits a second for it at most.
func (h *Hook) readState(root, id string) (oci.State, error) {
	return hostfs.Within(h.reads, root+"/"+id, func() (oci.State, error) { return oci.ReadState(h.host, root, id) }, nil)
}

// follow has the end of an init reported, and its exec where it waits for start. An error says that it has ended.
func (h *Hook) follow(t task.Task, waiting bool) error {
	if h.programs.Tracer == nil {
		return nil // the sweep will find it dead
	}
	if err := h.programs.Tracer.FollowInit(&t, waiting); err != nil {
		h.metrics.unread("follow")
		return nil
	}
	again, err := h.programs.Lookup.OfPID(h.hostProc, int32(t.Tgid))
	if err == nil && again.StartBoottime != t.StartBoottime {
		err = task.ErrGone
	}
	return err
}

// identify looks at the process that a runtime's state names.
func (h *Hook) identify(state oci.State) (task.Task, error) {
	t, err := h.look(state.PID)
	if err != nil {
		return task.Task{}, fmt.Errorf("look at pid %d: %w", state.PID, err)
	}
	if ticks := t.Process().StartTicks; state.StartTicks != 0 && state.StartTicks != ticks {
		return task.Task{}, fmt.Errorf("pid %d began at tick %d, not %d: %w", state.PID, ticks, state.StartTicks, task.ErrGone)
	}
	return t, nil
}

// look asks the kernel about a pid of the host; without BPF, its procfs, which has less.
func (h *Hook) look(pid int32) (task.Task, error) {
	if h.programs.Lookup != nil {
		return h.programs.Lookup.OfPID(h.hostProc, pid)
	}
	stat, err := os.ReadFile(filepath.Join(h.hostProc, strconv.Itoa(int(pid)), "stat"))
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
func (h *Hook) believe(state oci.State) error {
	if state.UID == 0 {
		return nil
	}
	owner, err := h.ownerOfNamespace(state.PID)
	if err == nil && (owner != state.UID || !h.o.Rootless) {
		return errNotTheirs
	}
	return err
}

// isGone says whether err is that a process is dead, and not that it could not be looked at.
func isGone(err error) bool {
	return errors.Is(err, task.ErrGone) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// ownerOfNamespace is the user who made the user namespace that a pid of the host is in: 0 for the initial one.
func (h *Hook) ownerOfNamespace(pid int32) (uid uint32, err error) {
	name := filepath.Join(h.hostProc, strconv.Itoa(int(pid)), "ns/user")
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
