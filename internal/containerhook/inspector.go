package containerhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/hook"
)

var (
	errTooMuchConfig = errors.New("too much of users' config.jsons at once")
	errManyUsers     = errors.New("too many users' config.jsons are read at once")
)

// deadlineMargin is how much longer than the deadline anybody waits here: it is the gate that answers then, and counts it.
const deadlineMargin = 50 * time.Millisecond

// resultOf is how the gate counts a held exec with that verb.
var resultOf = map[verb]gate.Result{verbCreate: gate.Create, verbRun: gate.Run, verbRestore: gate.Restore,
	verbStart: gate.Start, verbDelete: gate.Delete, verbNamed: gate.Conmon}

// inspect reads the command of a held exec and does what it asks for: argv → command → files → input. It runs in a
// goroutine of its own, and may hang: the deadline answers.
func (h *Hook) inspect(ctx context.Context, r *gate.Request) {
	by, known := h.runtimes.find(r.Token)
	if !known { // unmarked since
		r.Allow(gate.Ignored)
		return
	}
	args, err := h.readArgv(r)
	if err != nil {
		h.metrics.unread("argv")
		h.wantListing("error")
		r.Allow(gate.Error)
		return
	}
	cmd, err := parseCommand(by.path, args)
	if errors.Is(err, errBadID) {
		h.metrics.unread("id")
	}
	if err != nil {
		r.Allow(gate.Ignored)
		return
	}

	logr.FromContextOrDiscard(ctx).V(1).Info("Held", "verb", cmd.verb, "containerID", cmd.id, "pid", r.Task.Tgid, "path", by.path)
	switch cmd.verb {
	case verbNamed:
		h.sender(ctx)(named{cmd.id, cmd.name, r.Task.Euid})
	case verbCreate, verbRun, verbRestore:
		h.inspectCreate(ctx, r, by, cmd)
	case verbStart:
		h.inspectStart(ctx, r, by, cmd)
	}
	r.Allow(resultOf[cmd.verb])
}

// readArgv reads the memory of a stranger, who may have backed it by a file system that hangs.
func (h *Hook) readArgv(r *gate.Request) ([]string, error) {
	defer h.reads.begin(fmt.Sprintf("the memory of pid %d", r.Task.Tgid))()
	return h.programs.Argv.Read(&r.Task)
}

// inspectCreate is for a runtime that is held at create, run or restore. While it is held its children are followed, and
// its root and working directory are opened, which are then the same whatever it does. What it was asked to make is read
// after the answer: the tracker keeps what the kernel reports of it until then.
func (h *Hook) inspectCreate(ctx context.Context, r *gate.Request, by executable, cmd command) {
	in := created{at: r.At, runtime: r.Task.Process(), command: cmd, uid: r.Task.Euid, serial: h.serial.Add(1),
		by: hook.Runtime{Name: by.name, Path: by.path, Root: cmp.Or(cmd.root, defaultStateRoot(by.name))}}
	if err := h.programs.Tracer.FollowRuntime(&r.Task); err != nil {
		h.metrics.unread("follow")
		h.wantListing("error")
	}
	caller, err := openCaller(h.hostProc, int(r.Task.Tid), r.Task.Euid)
	if in.late = r.Expired(); in.late {
		h.wantListing("timeout")
	}
	h.sender(ctx)(in)
	r.Allow(resultOf[cmd.verb])
	r.Detach()

	// A file system that hangs keeps this goroutine, and nobody else: then the container is reported without its facts.
	name := cmd.bundle + "/config.json"
	defer h.reads.begin(name)()
	var complete atomic.Bool
	describe := func(f *facts) {
		if complete.CompareAndSwap(false, true) {
			if f.problem != "" {
				h.metrics.unread("config")
			}
			h.sender(ctx)(described{in.serial, f})
		}
	}
	whenHung := time.AfterFunc(hangsAfter, func() {
		describe(parseFacts(in.by.Name, in.by.Root, cmd.bundle, nil, pathError("read", name, errHangs)))
	})
	defer whenHung.Stop()

	if err != nil {
		describe(parseFacts(in.by.Name, in.by.Root, "", nil, err))
		return
	}
	defer caller.Close()
	// What hangs keeps this goroutine, and there are only so many: users have a few of them.
	err = h.reads.refuses(name)
	if err == nil && in.uid != 0 {
		select {
		case h.users <- struct{}{}:
			defer func() { <-h.users }()
		default:
			err = errManyUsers
		}
	}
	if err != nil {
		describe(parseFacts(in.by.Name, in.by.Root, cmd.bundle, nil, err))
		return
	}
	root := caller.stateRoot(by.name, cmd)
	config, bundle, err := caller.openConfig(cmd)
	facts, release := h.readFacts(in.by.Name, config, root, bundle, in.uid, err)
	describe(facts)
	release()
}

// readFacts reads an opened config.json. What users can have us keep is bounded; release gives that back.
func (h *Hook) readFacts(runtime string, file *os.File, root, bundle string, uid uint32, err error) (f *facts, release func()) {
	release = func() {}
	var config []byte
	if err == nil {
		config, err = readOwnedFile(file, maxConfig, uid)
		file.Close()
	}
	if err == nil && uid != 0 {
		size := int64(len(config))
		if h.waiting.TryAcquire(size) {
			release = func() { h.waiting.Release(size) }
		} else {
			err = errTooMuchConfig
		}
	}
	return parseFacts(runtime, root, bundle, config, err), release
}

// inspectStart is for a runtime that is held at start: the container exists and its process waits, so everything about it
// is read, and reported, before it runs.
func (h *Hook) inspectStart(ctx context.Context, r *gate.Request, by executable, cmd command) {
	root := cmp.Or(cmd.root, defaultStateRoot(by.name))
	end := h.reads.begin(root + "/" + cmd.id)
	var reported atomic.Bool
	giveUp := time.AfterFunc(hangsAfter, func() {
		if reported.CompareAndSwap(false, true) {
			h.metrics.unread("state")
			h.sender(ctx)(starting{at: r.At, of: instance{root, cmd.id, r.Task.Euid}})
		}
	})
	defer giveUp.Stop()
	in, err := h.readStarting(r, by, cmd)
	end()
	if err != nil {
		h.metrics.unread("state")
	}
	if !reported.CompareAndSwap(false, true) {
		return
	}

	if !h.start(ctx, r, in) {
		return
	}
	// Nobody has reported it: made before the agent, or in a gap. Its process has yet to begin.
	h.sender(ctx)(h.find(in.of, in.init))
	in.again = true
	h.start(ctx, r, in)
}

// start gives in to the tracker and waits until all is reported, or the deadline is over. It says whether the tracker
// does not know the container.
func (h *Hook) start(ctx context.Context, r *gate.Request, in starting) (unknown bool) {
	in.done = make(chan bool, 1)
	h.sender(ctx)(in)
	timeout := time.NewTimer(r.Left() + deadlineMargin)
	defer timeout.Stop()
	select {
	case unknown = <-in.done:
	case <-timeout.C: // the gate has answered
	case <-ctx.Done():
	}
	return unknown
}

// readStarting reads the state of the container that r is about to start.
func (h *Hook) readStarting(r *gate.Request, by executable, cmd command) (in starting, err error) {
	in = starting{at: r.At, of: instance{cmd.root, cmd.id, r.Task.Euid}}
	caller, err := openCaller(h.hostProc, int(r.Task.Tid), r.Task.Euid)
	if err != nil {
		return in, err
	}
	defer caller.Close()
	in.of.root = caller.stateRoot(by.name, cmd)
	state, err := readState(caller.root, in.of.root, in.of.id)
	if err != nil {
		return in, err
	}
	t, err := h.identify(state)
	in.init = t.Process()
	return in, err
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
