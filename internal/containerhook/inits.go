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
	"github.com/containerhook/containerhook/internal/hook"
)

// adopt is the tracker's way to the init of a container in the host's PID namespace.
func (h *Hook) adopt(of instance) (hook.Process, bool) {
	state, err := readState(h.host, of.root, of.id)
	if err != nil || state.uid != of.uid {
		return hook.Process{}, false
	}
	t, err := h.identify(state)
	if err != nil || h.believe(state) != nil {
		return hook.Process{}, false
	}
	return t.process(), h.follow(t, state.waiting) == nil
}

// follow has the end of an init reported, and its exec where it waits for start. An error says that it has ended.
func (h *Hook) follow(t task, waiting bool) error {
	if h.life == nil {
		return nil // the sweep will find it dead
	}
	if err := h.life.followInit(&t, waiting); err != nil {
		h.metrics.unread("follow")
		return nil
	}
	again, err := h.who.ownerOf(h.hostProc, int32(t.Tgid))
	if err == nil && again.StartBoottime != t.StartBoottime {
		err = errTaskGone
	}
	return err
}

// identify looks at the process that a runtime's state names.
func (h *Hook) identify(state runtimeState) (task, error) {
	t, err := h.look(state.pid)
	if err != nil {
		return task{}, fmt.Errorf("look at pid %d: %w", state.pid, err)
	}
	if ticks := t.process().StartTicks; state.startTicks != 0 && state.startTicks != ticks {
		return task{}, fmt.Errorf("pid %d began at tick %d, not %d: %w", state.pid, ticks, state.startTicks, errTaskGone)
	}
	return t, nil
}

// look asks the kernel about a pid of the host; without BPF, its procfs, which tells less.
func (h *Hook) look(pid int32) (task, error) {
	if h.who != nil {
		return h.who.ownerOf(h.hostProc, pid)
	}
	stat, err := os.ReadFile(filepath.Join(h.hostProc, strconv.Itoa(int(pid)), "stat"))
	if err != nil {
		return task{}, err
	}
	// "pid (comm) state …": comm may hold anything, blanks and brackets too. Field 22 is the start, in ticks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return task{}, errTaskGone
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return task{WhoTask: bpf.WhoTask{Tgid: uint32(pid), StartBoottime: ticks * (1e9 / userHZ)}}, err
}

// believe says whether a state may name that process. Root's word counts; a user could name any pid.
func (h *Hook) believe(state runtimeState) error {
	if state.uid == 0 {
		return nil
	}
	owner, err := h.ownerOfNamespace(state.pid)
	if err == nil && (owner != state.uid || !h.o.Rootless) {
		return errNotTheirs
	}
	return err
}

// isGone says whether err is that a process is dead, and not that it could not be looked at.
func isGone(err error) bool {
	return errors.Is(err, errTaskGone) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// ownerOfNamespace is the user who made the user namespace that a pid of the host is in: 0 for the initial one.
func (h *Hook) ownerOfNamespace(pid int32) (uid uint32, err error) {
	name := filepath.Join(h.hostProc, strconv.Itoa(int(pid)), "ns/user")
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer closeFD(fd)
	if uid, err = unix.IoctlGetUint32(fd, nsGetOwnerUID); err != nil {
		return 0, fmt.Errorf("ask whose user namespace pid %d is in: %w", pid, err)
	}
	return uid, nil
}

// nsGetOwnerUID is NS_GET_OWNER_UID of linux/nsfs.h (4.11, 6ad92bf63e45).
const nsGetOwnerUID = 0xb704
