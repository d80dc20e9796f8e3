package containerhook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/hook"
)

// What a held exec turned out to be: the label "result" of the metric.
const (
	resultForeign  = "foreign"  // of another node on the same kernel
	resultRootless = "rootless" // not by root, and that was not asked for
	resultOwn      = "own"      // a runtime executes itself
	resultOther    = "other"    // not a command that makes or ends a container
	resultCrowded  = "crowded"  // too many at once
	resultUnread   = "unread"   // who or what it is could not be read
	resultLate     = "late"     // the deadline was over first
)

var errCrowded = errors.New("too many users' config.jsons at once")

// inspect begins the way of one held exec: who → command → bundle → input. What can be said at once is; the rest is for
// a goroutine of its own, so that the gate can read on.
func (h *Hook) inspect(ctx context.Context, held *held) {
	by, result := h.triage(held)
	if result != "" {
		held.allow(result)
		return
	}
	slots := h.slots
	if held.task.Euid != 0 {
		slots = h.users
	}
	select {
	case slots <- struct{}{}:
	default:
		held.allow(resultCrowded)
		h.wantListing(resultCrowded)
		return
	}
	go func() {
		defer func() { <-slots }()
		result := resultUnread
		defer func() { held.allow(result) }()
		defer func() { // one container that we cannot bear must not blind the node to all others
			if r := recover(); r != nil {
				logr.FromContextOrDiscard(ctx).Error(fmt.Errorf("%v", r), "Inspecting a held exec panicked",
					"pid", held.task.Tgid, "stack", string(debug.Stack()))
				h.wantListing("panic")
			}
		}()
		result = h.dispatch(ctx, held, by)
	}()
}

// triage is all that is decided without a wait.
func (h *Hook) triage(held *held) (by executable, result string) {
	var st unix.Stat_t
	switch err := unix.Fstat(int(held.event.Fd), &st); {
	case errors.Is(held.err, errTaskGone):
		return by, resultOther
	case held.err != nil || err != nil:
		h.metrics.unread("task")
		h.wantListing(resultUnread)
		return by, resultUnread
	case held.task.Tgid == 0:
		return by, resultForeign
	case held.task.Euid != 0 && !h.o.Rootless:
		return by, resultRootless
	case held.task.argv == 0:
		return by, resultOther
	}
	by, known := h.runtimes.find(inode{uint64(st.Dev), st.Ino})
	if !known { // unmarked since
		return by, resultOther
	}
	return by, ""
}

// dispatch reads the command of a held exec and does what it asks for.
func (h *Hook) dispatch(ctx context.Context, held *held, by executable) (result string) {
	if h.life.below(held.task.Tgid) {
		return resultOwn
	}
	args, err := h.argv.read(&held.task)
	if err != nil {
		h.metrics.unread("argv")
		h.wantListing(resultUnread)
		return resultUnread
	}
	cmd, err := parseCommand(by.path, args)
	if errors.Is(err, errBadID) {
		h.metrics.unread("id")
	}
	if err != nil {
		return resultOther
	}
	log := logr.FromContextOrDiscard(ctx).WithValues("verb", cmd.verb, "containerID", cmd.id, "pid", held.task.Tgid)
	log.V(1).Info("Held", "path", by.path)
	switch cmd.verb {
	case verbNamed:
		h.sender(ctx)(named{cmd.id, cmd.name, held.task.Euid})
	case verbCreate, verbRun, verbRestore:
		h.held(ctx, held, by, cmd)
	case verbStart:
		h.heldAtStart(ctx, held, by, cmd)
	}
	return string(cmd.verb)
}

// held is a runtime at create, run or restore: its children are followed, and what it was asked for is read, before it
// runs. Where that took longer than the deadline its init may have come and gone meanwhile.
func (h *Hook) held(ctx context.Context, held *held, by executable, cmd command) {
	in := created{at: held.since, runtime: held.task.process(), command: cmd, uid: held.task.Euid,
		by: hook.Runtime{Name: by.name, Path: by.path}}
	if err := h.life.followRuntime(&held.task); err != nil {
		h.metrics.unread("follow")
		h.wantListing(resultUnread)
	}
	caller, err := openCaller(h.hostProc, int(held.task.Tid), held.task.Euid)
	if err == nil {
		defer caller.Close()
		in.by.Root = caller.stateRoot(by.name, cmd)
		in.config, in.bundle, err = caller.readConfig(cmd)
	}
	if in.uid != 0 && !h.waiting.TryAcquire(int64(len(in.config))) {
		in.config, err = nil, errCrowded
	}
	if err != nil {
		h.metrics.unread("config")
		in.problem = err.Error()
	}
	if in.late = held.answered.Load(); in.late {
		h.wantListing(resultLate)
	}
	h.sender(ctx)(in)
}

// heldAtStart is a runtime at start: the container exists and its process waits, so everything about it is read, and
// told, before it runs.
func (h *Hook) heldAtStart(ctx context.Context, held *held, by executable, cmd command) {
	in := starting{at: held.since, done: make(chan struct{})}
	caller, err := openCaller(h.hostProc, int(held.task.Tid), held.task.Euid)
	if err == nil {
		defer caller.Close()
		in.of = instance{caller.stateRoot(by.name, cmd), cmd.id, held.task.Euid}
		var state runtimeState
		if state, err = readState(caller.root, in.of.root, in.of.id); err == nil {
			var t task
			t, err = h.identify(state)
			in.init = t.process()
		}
	}
	if err != nil {
		h.metrics.unread("state")
	}
	h.sender(ctx)(in)
	select {
	case <-in.done:
	case <-ctx.Done():
	}
}

// stateRoot is the state directory of the runtime that cmd was given to: what --root says, or its default. It may not
// be there yet.
func (c *caller) stateRoot(runtime string, cmd command) string {
	root := cmd.root
	if root == "" {
		root = defaultStateRoot(runtime)
	}
	if cmd.root == "" && c.uid != 0 {
		root = strings.Replace(root, "/run/", fmt.Sprintf("/run/user/%d/", c.uid), 1)
	}
	root, _ = c.dir(root)
	// /var/run is /run (FHS 3.0, 5.13). Docker's is named by the one before it exists, and by the other in a listing.
	if rest, ok := strings.CutPrefix(root, "/var/run/"); ok {
		return "/run/" + rest
	}
	return root
}
