package oci

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

// maxState bounds state.json, which for runc holds its own form of the config.
const maxState = MaxConfig

// State is what a runtime keeps on disk of one container. Pids and ticks are as the runtime saw them: of its own
// PID namespace, and of its time namespace.
type State struct {
	Runtime    string    // whose form the state has: "runc", "crun" or "youki"
	UID        uint32    // whose directory it is, who may have written anything: 0, or a rootless user
	PID        int32     // of the init
	StartTicks uint64    // field 22 of /proc/<pid>/stat; 0 where it is not recorded (youki)
	Bundle     string    // absolute; runc and crun resolve symlinks first
	Created    time.Time // may be zero
	Waiting    bool      // created, and start has not let the user's process begin
}

var errNoInit = errors.New("no init process recorded")

// ReadState reads what the runtime says of a container, from <root>/<id>/state.json (runc, youki) or status (crun).
// Where neither is there the error is fs.ErrNotExist: the container is being made, or is gone. id passed validID.
func ReadState(host *hostfs.Root, runtimeRoot, id string) (State, error) {
	name := path.Join(runtimeRoot, id)
	dir, err := host.Sub(name)
	if err != nil {
		return State{}, err
	}
	defer dir.Close()
	s, err := stateIn(dir)
	if err != nil {
		return State{}, hostfs.PathError("read the state in", name, err)
	}
	return s, nil
}

// stateIn reads the state that a container's directory holds. A root of its own, the directory has no symlink that
// leads to what is not the container's.
func stateIn(dir *hostfs.Root) (State, error) {
	raw, err := dir.Read("state.json", maxState)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = dir.Read("status", maxState)
	}
	if err != nil {
		return State{}, err
	}
	s, err := parseState(raw)
	if err != nil {
		return State{}, err
	}
	if s.UID, err = dir.Owner(); err != nil {
		return State{}, err
	}
	// runc and crun remove it when start is through. It is only looked at: opening it is what start does.
	fifo, err := dir.Lookup("exec.fifo", unix.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return State{}, err
	}
	hostfs.CloseFD(fifo)
	s.Waiting = true
	return s, nil
}

// parseState reads a state of any of the runtimes; which one's it is shows by its names.
func parseState(raw []byte) (State, error) {
	var file struct {
		Created string `json:"created"`

		// runc: libcontainer.State.
		InitPID   int64  `json:"init_process_pid"`
		InitStart uint64 `json:"init_process_start"`
		Config    struct {
			Labels []string `json:"labels"`
		} `json:"config"`

		// crun: libcrun/status.c.
		ProcessStart *uint64 `json:"process-start-time"`

		// crun, and youki: libcontainer/src/container/state.rs.
		PID    int64  `json:"pid"`
		Bundle string `json:"bundle"`

		// youki.
		Status string `json:"status"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return State{}, jsonError(err)
	}
	s := State{Bundle: file.Bundle}
	s.Created, _ = time.Parse(time.RFC3339, file.Created) // zero where it cannot be read: nobody decides by it
	pid := file.PID
	switch {
	case file.InitPID != 0:
		s.Runtime, pid, s.StartTicks, s.Bundle = "runc", file.InitPID, file.InitStart, labelledBundle(file.Config.Labels)
	case file.ProcessStart != nil:
		s.Runtime, s.StartTicks = "crun", *file.ProcessStart
	default:
		s.Runtime, s.Waiting = "youki", file.Status == "creating" || file.Status == "created"
	}
	if pid <= 0 || pid > math.MaxInt32 {
		return State{}, errNoInit
	}
	s.PID = int32(pid)
	return s, nil
}

// labelledBundle finds runc's own label. The ones before it are the container's annotations, which may say anything.
func labelledBundle(labels []string) (bundle string) {
	for _, label := range labels {
		if value, ok := strings.CutPrefix(label, "bundle="); ok {
			bundle = value
		}
	}
	return bundle
}

// DefaultStateRoot is where a runtime keeps its state when --root does not say where, as root: crun would put
// XDG_RUNTIME_DIR before it, which is in no argv.
func DefaultStateRoot(binary string) string {
	switch name := path.Base(binary); {
	case strings.Contains(name, "crun"), strings.Contains(name, "krun"):
		return "/run/crun"
	case strings.Contains(name, "youki"):
		return "/run/youki"
	case strings.Contains(name, "runsc"):
		return "/run/runsc"
	default:
		return "/run/runc"
	}
}
