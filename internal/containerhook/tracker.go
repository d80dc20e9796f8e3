package containerhook

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/hook"
)

// tracker turns what the gate, the kernel and the listing say into the life of each container. It is a plain value for
// one goroutine, without clock and (but for adopt) without effect: the same inputs give the same events.
type tracker struct {
	// adopt finds the init of a container whose runtime is done, and has its end reported: one in the host's PID
	// namespace cannot be told from its runtime's other children, and only the runtime's state on disk names it.
	adopt func(instance) (hook.Process, bool)

	byID      map[instance]*container // from its init on; a stopped one until a listing no longer shows it
	byInit    map[int32]*container    // while the init lives
	byRuntime map[int32]*container    // while its create, run or restore runs
	names     map[string]string       // by ID: what conmon was told, until the container comes

	out    []hook.Event
	missed int // containers that the hook should have seen, and the listing had to find
}

// instance is how a runtime knows a container: an ID in a state directory.
type instance struct{ root, id string }

// container is one that is followed.
type container struct {
	hook.Container
	verb    verb
	spec    *specs.Spec // until the first event carries it
	hostPID bool        // it has no PID namespace of its own
	told    bool

	runtime hook.Process // at work on it; zero when none is
	end     *exited      // of the init, while its runtime is still to say whether that is a failed create
}

// maxNames bounds names: conmon is given a name for each container, and some of them never come.
const maxNames = 1024

func newTracker(adopt func(instance) (hook.Process, bool)) *tracker {
	return &tracker{adopt: adopt, byID: map[instance]*container{}, byInit: map[int32]*container{},
		byRuntime: map[int32]*container{}, names: map[string]string{}}
}

// input is something that happened.
type input interface{ apply(*tracker) }

// step returns what has to be told after in, in order.
func (t *tracker) step(in input) []hook.Event {
	t.out = nil
	in.apply(t)
	return t.out
}

// tell adds an event of c as it is now.
func (t *tracker) tell(c *container) {
	e := hook.Event{Container: c.Container}
	if !c.told {
		e.Spec, c.spec, c.told = c.spec, nil, true
	}
	t.out = append(t.out, e)
}

func (c *container) instance() instance { return instance{c.Runtime.Root, c.ID} }
func (c *container) begun() bool        { return c.State == hook.Running }

// setInit makes p the init of c; from here on c is what its ID means.
func (t *tracker) setInit(c *container, p hook.Process) {
	c.Init = p
	t.byInit[p.PID] = c
	t.byID[c.instance()] = c
}

// finish makes c stopped.
func (t *tracker) finish(c *container, at time.Time, code *int32, reason hook.Reason) {
	c.State, c.FinishTime, c.ExitCode, c.Reason = hook.Stopped, at, code, reason
	if t.byInit[c.Init.PID] == c {
		delete(t.byInit, c.Init.PID)
	}
	t.tell(c)
}

// finishInit makes c stopped as its init ended.
func (t *tracker) finishInit(c *container, end *exited) {
	reason := hook.Completed
	code := exitCode(end.status)
	if code != 0 {
		reason = hook.Failed
	}
	if end.status.Signaled() {
		c.Signal = int32(end.status.Signal())
	}
	if end.oom {
		c.OOMKilled, reason = true, hook.OOMKilled
	}
	t.finish(c, end.at, &code, reason)
}

// exitCode is the code that runtimes report: 128 + the signal for one that was killed.
func exitCode(s unix.WaitStatus) int32 {
	if s.Signaled() {
		return 128 + int32(s.Signal())
	}
	return int32(s.ExitStatus())
}

// created: a runtime is held at create, run or restore.
type created struct {
	at       time.Time
	runtime  hook.Process // the one that is held
	by       hook.Runtime
	command  command
	bundle   string
	config   []byte
	problem  string
	rootless bool
}

func (in created) apply(t *tracker) {
	c := &container{
		Container: hook.Container{ID: in.command.id, Name: t.names[in.command.id], Runtime: in.by, Bundle: in.bundle,
			Rootless: in.rootless, Source: hook.FromHook, Problem: in.problem, State: hook.Creating, CreateTime: in.at},
		verb: in.command.verb, runtime: in.runtime}
	c.setConfig(in.config)
	// The same process again is a wrapper that became the runtime, or crun's copy of itself: the later one knows better.
	if before := t.byRuntime[in.runtime.PID]; before != nil && before.runtime == in.runtime {
		c.Name, c.CreateTime = before.Name, before.CreateTime
	}
	delete(t.names, in.command.id)
	t.byRuntime[in.runtime.PID] = c
}

// setConfig keeps what config.json says, or why it says nothing.
func (c *container) setConfig(config []byte) {
	if config == nil {
		return
	}
	spec, digest, err := parseConfig(config)
	if err != nil {
		c.Problem = err.Error()
		return
	}
	c.spec, c.ConfigDigest = spec, digest
	c.hostPID = spec.Linux != nil
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			c.hostPID = c.hostPID && ns.Type != specs.PIDNamespace
		}
	}
}

// named: conmon is about to have a container made.
type named struct{ id, name string }

func (in named) apply(t *tracker) {
	if len(t.names) >= maxNames {
		clear(t.names) // only names are lost, and only those of containers that have not come for a thousand others
	}
	t.names[in.id] = in.name
}

// forked: below a runtime something entered another PID namespace.
type forked struct {
	at      time.Time
	runtime int32
	init    hook.Process
}

func (in forked) apply(t *tracker) {
	c := t.byRuntime[in.runtime]
	if c == nil || c.Init.PID != 0 {
		return // a hook that enters the container is not a second init
	}
	t.setInit(c, in.init)
	t.tell(c)
}

// execed: an init, or another child of a runtime, has become another program.
type execed struct {
	at      time.Time
	runtime int32
	process hook.Process
	isInit  bool
}

func (in execed) apply(t *tracker) {
	c := t.byInit[in.process.PID]
	if pending := t.byRuntime[in.runtime]; !in.isInit && pending != nil && pending.hostPID && pending.Init.PID == 0 {
		if p, ok := t.adopt(pending.instance()); ok && p.PID == in.process.PID {
			t.setInit(pending, p)
			c = pending
		}
	}
	if c == nil || c.Init.StartTicks != in.process.StartTicks || c.begun() {
		return
	}
	c.Init, c.State, c.StartTime = in.process, hook.Running, in.at
	t.tell(c)
}

// starting: a runtime is held at start. The init waits too, so everything about it can be read.
type starting struct {
	of   instance
	init hook.Process // as the runtime's state names it and the kernel describes it; zero when it could not be read
	done chan struct{}
}

func (in starting) apply(t *tracker) {
	c := t.byID[in.of]
	if c == nil || c.State == hook.Stopped || c.begun() {
		return
	}
	if in.init.PID == c.Init.PID && in.init.StartTicks == c.Init.StartTicks {
		c.Init = in.init
	} else {
		c.Problem = "the runtime's state names another init than the kernel saw"
	}
	c.State = hook.Created
	t.tell(c)
}

// exited: a runtime or an init has ended.
type exited struct {
	at        time.Time
	process   hook.Process
	status    unix.WaitStatus
	oom       bool
	isRuntime bool
}

func (in exited) apply(t *tracker) {
	if in.isRuntime {
		if c := t.byRuntime[in.process.PID]; c != nil && c.runtime.StartTicks == in.process.StartTicks {
			delete(t.byRuntime, in.process.PID)
			c.runtime = hook.Process{}
			t.runtimeExited(c, &in)
		}
		return
	}
	c := t.byInit[in.process.PID]
	if c == nil || c.Init.StartTicks != in.process.StartTicks {
		return
	}
	delete(t.byInit, in.process.PID)
	if c.runtime.PID != 0 && !c.begun() {
		c.end = &in
		return
	}
	t.finishInit(c, &in)
}

// runtimeExited decides what the end of its create, run or restore means for c.
func (t *tracker) runtimeExited(c *container, in *exited) {
	code := exitCode(in.status)
	switch {
	case c.State == hook.Stopped, c.begun():
		return
	case code != 0:
		if c.Init.PID == 0 {
			c.Init.StartTicks = in.process.StartTicks
		}
		t.finish(c, in.at, &code, hook.CreateFailed)
		return
	case c.end != nil:
		t.finishInit(c, c.end)
		return
	case c.Init.PID == 0:
		p, ok := t.adopt(c.instance())
		if !ok {
			return // gone already, or not to be found: the listing will tell
		}
		t.setInit(c, p)
	}
	c.State = hook.Created
	if c.verb != verbCreate {
		c.State, c.StartTime = hook.Running, in.at // the kernel did not tell of its exec
	}
	t.tell(c)
}

// oomed: something below an init was killed for want of memory.
type oomed struct{ init int32 }

func (in oomed) apply(t *tracker) {
	if c := t.byInit[in.init]; c != nil && !c.OOMKilled {
		c.OOMKilled = true
		t.tell(c)
	}
}
