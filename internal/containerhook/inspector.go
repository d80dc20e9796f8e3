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
	"golang.org/x/sync/semaphore"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/runtimes"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/event"
)

var (
	errTooMuchConfig = errors.New("too much of users' config.jsons at once")
	errManyUsers     = errors.New("too many users' config.jsons are read at once")
)

// deadlineMargin is how much longer than the deadline anybody waits here: it is the gate that answers then, and counts it.
const deadlineMargin = 50 * time.Millisecond

const (
	// maxWaiting is how many bytes of users' config.jsons may wait for the tracker: four of the largest, hundreds of usual ones.
	maxWaiting = 4 * oci.MaxConfig
	// maxUsers is how many users' config.jsons are read at once: they may hang.
	maxUsers = 16
)

// inspector reads what a held exec is about, and tells the tracker. Safe for concurrent use.
type inspector struct {
	*processes
	queue    *queue
	reads    *hostfs.Reads
	runtimes *runtimes.Set
	find     func(of tracker.Instance, init event.Process) tracker.Inventory // lists one container

	serial  atomic.Uint64       // of held execs
	users   chan struct{}       // has one element for each config.json of a user's that is being read
	waiting *semaphore.Weighted // bytes of users' config.jsons that wait for the tracker
}

// resultOf is how the gate counts a held exec with that verb.
var resultOf = map[oci.Verb]gate.Result{oci.VerbCreate: gate.Create, oci.VerbRun: gate.Run, oci.VerbRestore: gate.Restore,
	oci.VerbStart: gate.Start, oci.VerbDelete: gate.Delete, oci.VerbNamed: gate.Conmon}

// inspect reads the command of a held exec and does what it asks for: argv → command → files → input. It runs in a
// goroutine of its own, and may hang: the deadline answers.
func (i *inspector) inspect(ctx context.Context, r *gate.Request) {
	by, known := i.runtimes.Find(r.Token)
	if !known { // unmarked since
		r.Allow(gate.Ignored)
		return
	}
	args, err := i.readArgv(r)
	if err != nil {
		i.metrics.unread("argv")
		i.queue.wantListing("error")
		r.Allow(gate.Error)
		return
	}
	cmd, err := oci.ParseCommand(by.Path, args)
	if errors.Is(err, oci.ErrBadID) {
		i.metrics.unread("id")
	}
	if err != nil {
		r.Allow(gate.Ignored)
		return
	}

	logr.FromContextOrDiscard(ctx).V(1).Info("Held", "verb", cmd.Verb, "containerID", cmd.ID, "pid", r.Task.Tgid, "path", by.Path)
	switch cmd.Verb {
	case oci.VerbNamed:
		i.queue.send(ctx, tracker.Named{ID: cmd.ID, Name: cmd.Name, UID: r.Task.Euid})
	case oci.VerbCreate, oci.VerbRun, oci.VerbRestore:
		i.inspectCreate(ctx, r, by, cmd)
	case oci.VerbStart:
		i.inspectStart(ctx, r, by, cmd)
	}
	r.Allow(resultOf[cmd.Verb])
}

// readArgv reads the memory of a stranger, who may have backed it by a file system that hangs.
func (i *inspector) readArgv(r *gate.Request) ([]string, error) {
	defer i.reads.Begin(fmt.Sprintf("the memory of pid %d", r.Task.Tgid))()
	return i.programs.Argv.Read(&r.Task)
}

// inspectCreate is for a runtime that is held at create, run or restore. While it is held its children are followed, and
// its root and working directory are opened, which are then the same whatever it does. What it was asked to make is read
// after the answer: the tracker keeps what the kernel reports of it until then.
func (i *inspector) inspectCreate(ctx context.Context, r *gate.Request, by runtimes.Executable, cmd oci.Command) {
	in := tracker.Created{At: r.At, Runtime: r.Task.Process(), ID: cmd.ID, Verb: tracker.Verb(cmd.Verb), Detach: cmd.Detach, UID: r.Task.Euid, Serial: i.serial.Add(1),
		By: event.Runtime{Name: by.Name, Path: by.Path, Root: cmp.Or(cmd.Root, oci.DefaultStateRoot(by.Name))}}
	if err := i.programs.Tracer.FollowRuntime(&r.Task); err != nil {
		i.metrics.unread("follow")
		i.queue.wantListing("error")
	}
	caller, err := openCaller(i.hostProc, int(r.Task.Tid), r.Task.Euid)
	if in.Late = r.Expired(); in.Late {
		i.queue.wantListing("timeout")
	}
	i.queue.send(ctx, in)
	r.Allow(resultOf[cmd.Verb])
	r.Detach()

	// A file system that hangs keeps this goroutine, and nobody else: then the container is reported without its facts.
	name := cmd.Bundle + "/config.json"
	defer i.reads.Begin(name)()
	var complete atomic.Bool
	describe := func(f *tracker.Facts) {
		if complete.CompareAndSwap(false, true) {
			if f.Problem != "" {
				i.metrics.unread("config")
			}
			i.queue.send(ctx, tracker.Described{Serial: in.Serial, Facts: f})
		}
	}
	whenHung := time.AfterFunc(hostfs.HangsAfter, func() {
		describe(parseFacts(in.By.Name, in.By.Root, cmd.Bundle, nil, hostfs.PathError("read", name, hostfs.ErrHangs)))
	})
	defer whenHung.Stop()

	if err != nil {
		describe(parseFacts(in.By.Name, in.By.Root, "", nil, err))
		return
	}
	defer caller.Close()
	// What hangs keeps this goroutine, and there are only so many: users have a few of them.
	err = i.reads.Refuses(name)
	if err == nil && in.UID != 0 {
		select {
		case i.users <- struct{}{}:
			defer func() { <-i.users }()
		default:
			err = errManyUsers
		}
	}
	if err != nil {
		describe(parseFacts(in.By.Name, in.By.Root, cmd.Bundle, nil, err))
		return
	}
	root := caller.stateRoot(by.Name, cmd)
	config, bundle, err := caller.openConfig(cmd)
	facts, release := i.readFacts(in.By.Name, config, root, bundle, in.UID, err)
	describe(facts)
	release()
}

// readFacts reads an opened config.json. What users can have us keep is bounded; release gives that back.
func (i *inspector) readFacts(runtime string, file *os.File, root, bundle string, uid uint32, err error) (f *tracker.Facts, release func()) {
	release = func() {}
	var config []byte
	if err == nil {
		config, err = hostfs.ReadOwnedFile(file, oci.MaxConfig, uid)
		file.Close()
	}
	if err == nil && uid != 0 {
		size := int64(len(config))
		if i.waiting.TryAcquire(size) {
			release = func() { i.waiting.Release(size) }
		} else {
			err = errTooMuchConfig
		}
	}
	return parseFacts(runtime, root, bundle, config, err), release
}

// parseFacts reads what is to be known of a config.json, which may be something with a problem too.
func parseFacts(runtime, root, bundle string, config []byte, err error) *tracker.Facts {
	f := &tracker.Facts{Root: root, Bundle: bundle}
	if err == nil {
		f.Spec, err = oci.ParseConfig(config, runtime)
	}
	if err != nil {
		f.Problem = err.Error()
	}
	return f
}

// inspectStart is for a runtime that is held at start: the container exists and its process waits, so everything about it
// is read, and reported, before it runs.
func (i *inspector) inspectStart(ctx context.Context, r *gate.Request, by runtimes.Executable, cmd oci.Command) {
	root := cmp.Or(cmd.Root, oci.DefaultStateRoot(by.Name))
	end := i.reads.Begin(root + "/" + cmd.ID)
	var reported atomic.Bool
	giveUp := time.AfterFunc(hostfs.HangsAfter, func() {
		if reported.CompareAndSwap(false, true) {
			i.metrics.unread("state")
			i.queue.send(ctx, tracker.Starting{At: r.At, Of: tracker.Instance{Root: root, ID: cmd.ID, UID: r.Task.Euid}})
		}
	})
	defer giveUp.Stop()
	in, err := i.readStarting(r, by, cmd)
	end()
	if err != nil {
		i.metrics.unread("state")
	}
	if !reported.CompareAndSwap(false, true) {
		return
	}

	if !i.start(ctx, r, in) {
		return
	}
	// Nobody has reported it: made before the agent, or in a gap. Its process has yet to begin.
	i.queue.send(ctx, i.find(in.Of, in.Init))
	in.Again = true
	i.start(ctx, r, in)
}

// start gives in to the tracker and waits until all is reported, or the deadline is over. It says whether the tracker
// does not know the container.
func (i *inspector) start(ctx context.Context, r *gate.Request, in tracker.Starting) (unknown bool) {
	in.Done = make(chan bool, 1)
	i.queue.send(ctx, in)
	timeout := time.NewTimer(r.Left() + deadlineMargin)
	defer timeout.Stop()
	select {
	case unknown = <-in.Done:
	case <-timeout.C: // the gate has answered
	case <-ctx.Done():
	}
	return unknown
}

// readStarting reads the state of the container that r is about to start.
func (i *inspector) readStarting(r *gate.Request, by runtimes.Executable, cmd oci.Command) (in tracker.Starting, err error) {
	in = tracker.Starting{At: r.At, Of: tracker.Instance{Root: cmd.Root, ID: cmd.ID, UID: r.Task.Euid}}
	caller, err := openCaller(i.hostProc, int(r.Task.Tid), r.Task.Euid)
	if err != nil {
		return in, err
	}
	defer caller.Close()
	in.Of.Root = caller.stateRoot(by.Name, cmd)
	state, err := oci.ReadState(caller.root, in.Of.Root, in.Of.ID)
	if err != nil {
		return in, err
	}
	t, err := i.identify(state)
	in.Init = t.Process()
	return in, err
}

// stateRoot is the state directory of the runtime that cmd was given to: what --root says, or its default. It may not
// be there yet.
func (c *caller) stateRoot(runtime string, cmd oci.Command) string {
	root := cmd.Root
	if root == "" {
		root = oci.DefaultStateRoot(runtime)
	}
	if cmd.Root == "" && c.uid != 0 {
		root = strings.Replace(root, "/run/", fmt.Sprintf("/run/user/%d/", c.uid), 1)
	}
	root, _ = c.dir(root)
	// /var/run is /run (FHS 3.0, 5.13). Docker's is named by the one before it exists, and by the other in a listing.
	if rest, ok := strings.CutPrefix(root, "/var/run/"); ok {
		return "/run/" + rest
	}
	return root
}
