package containerhook

import (
	"maps"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/hook"
)

// tracker turns what the gate, the kernel and the listing say into the life of each container. It is a plain value for
// one goroutine, without clock and (but for adopt) without effect: the same inputs give the same events.
type tracker struct {
	// adopt finds the init of a container whose runtime is done, as its state on disk names it, and has its end reported:
	// one in the host's PID namespace cannot be told from its runtime's other children before it executes something.
	adopt func(instance) (hook.Process, bool)

	byID      map[instance]*container // from its init on; a stopped one until a listing no longer shows it
	byInit    map[int32]*container    // while the init lives
	byRuntime map[int32]*container    // while its create, run or restore runs
	names     map[instance]string     // by ID and user: what conmon was told, until the container comes

	out []hook.Event
	// Counts for whoever calls step, who resets them.
	missed   int // containers that the hook should have seen, and the listing had to find
	unparsed int // config.jsons that were read, and are none
	ended    int // containers that are kept although they stopped
}

// instance is how a runtime knows a container: an ID in a state directory. Users cannot speak for each other's: what they
// call a state directory is their own affair.
type instance struct {
	root, id string
	uid      uint32 // whose container: the runtime's effective user in the initial user namespace
}

// identity tells processes apart: a pid alone is reused.
type identity struct {
	pid   int32
	ticks uint64
}

func identityOf(p hook.Process) identity { return identity{p.PID, p.StartTicks} }

// container is one that is followed.
type container struct {
	hook.Container
	uid     uint32 // as in instance
	verb    verb
	detach  bool        // the runtime does not wait for its end
	spec    *specs.Spec // until the first event carries it
	hostPID bool        // it has no PID namespace of its own
	told    bool
	late    bool // as in created

	runtime hook.Process // at work on it; zero when none is
	end     *exited      // of the init, while its runtime is still to say whether that is a failed create
	failed  *int32       // the runtime's code, while its init is still to say whether that is a failed create
}

// maxNames bounds names: conmon is given a name for each container, and some of them never come.
const maxNames = 1024

func newTracker(adopt func(instance) (hook.Process, bool)) *tracker {
	return &tracker{adopt: adopt, byID: map[instance]*container{}, byInit: map[int32]*container{},
		byRuntime: map[int32]*container{}, names: map[instance]string{}}
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

func (c *container) instance() instance { return instance{c.Runtime.Root, c.ID, c.uid} }
func (c *container) begun() bool        { return c.State == hook.Running }

// setInit makes p the init of c; from here on c is what its ID means.
func (t *tracker) setInit(c *container, p hook.Process, at time.Time) {
	if before := t.byInit[p.PID]; before != nil && before != c {
		t.finish(before, at, nil, hook.ExitUnseen) // its pid is another process's: its end was lost
	}
	c.Init = p
	t.byInit[p.PID] = c
	t.byID[c.instance()] = c
}

// orphan is the init that the state on disk names for c, unless it is another container's already: whoever executes a
// runtime for nothing, with the ID of a container that is there, does not take it over.
func (t *tracker) orphan(c *container) (hook.Process, bool) {
	p, ok := t.adopt(c.instance())
	if other := t.byInit[p.PID]; other != nil && other != c && identityOf(other.Init) == identityOf(p) {
		return hook.Process{}, false
	}
	return p, ok
}

// created: a runtime is held at create, run or restore.
type created struct {
	at      time.Time
	runtime hook.Process // the one that is held
	uid     uint32       // its effective user
	by      hook.Runtime
	command command
	bundle  string
	config  []byte
	problem string
	late    bool // it runs already, not followed from its beginning: what it did until now was not seen
}

func (in created) apply(t *tracker) {
	name := instance{id: in.command.id, uid: in.uid}
	c := &container{
		Container: hook.Container{ID: in.command.id, Name: t.names[name], Runtime: in.by, Bundle: in.bundle,
			Rootless: in.uid != 0, Source: hook.FromHook, Problem: in.problem, State: hook.Creating, CreateTime: in.at},
		uid: in.uid, verb: in.command.verb, detach: in.command.detach, runtime: in.runtime,
		late: in.late}
	if err := c.setConfig(in.config); err != nil {
		c.Problem = err.Error()
		t.unparsed++
	}
	switch before := t.byRuntime[in.runtime.PID]; {
	case before == nil:
	case identityOf(before.runtime) != identityOf(in.runtime): // its pid is another process's: its end was lost
		t.runtimeEnded(before, in.at, nil)
	case before.Init.PID != 0:
		return // it makes one already
	default: // a wrapper that became the runtime, or crun's copy of itself: the later one knows better
		c.Name, c.CreateTime, c.late = before.Name, before.CreateTime, before.late
	}
	delete(t.names, name)
	t.byRuntime[in.runtime.PID] = c
}

// setConfig keeps what config.json says, which may be something with an error too; nothing where there is none.
func (c *container) setConfig(config []byte) error {
	if config == nil {
		return nil
	}
	spec, err := parseConfig(config)
	if spec == nil {
		return err
	}
	c.spec = spec
	c.hostPID = spec.Linux != nil
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			c.hostPID = c.hostPID && ns.Type != specs.PIDNamespace
		}
	}
	return err
}

// named: conmon is about to have a container made.
type named struct {
	id, name string
	uid      uint32 // conmon's effective user
}

func (in named) apply(t *tracker) {
	if len(t.names) >= maxNames { // only names are lost, and only those of containers that have not come for so many others
		maps.DeleteFunc(t.names, func(of instance, _ string) bool { return in.uid == 0 || of.uid != 0 })
	}
	t.names[instance{id: in.id, uid: in.uid}] = in.name
}

// forked: below a runtime something entered another PID namespace.
type forked struct {
	at      time.Time
	runtime int32
	init    hook.Process
}

func (in forked) apply(t *tracker) {
	c := t.byRuntime[in.runtime]
	if c == nil || c.Init.PID != 0 || c.hostPID {
		return // an OCI hook that enters the container is not a second init, nor is one that makes a namespace of its own
	}
	t.setInit(c, in.init, in.at)
	if c.verb == verbRestore && !c.detach { // what is restored executes nothing, and this runtime waits for its end
		c.State, c.StartTime = hook.Running, in.at
	}
	t.tell(c)
}

// execed: an init has become the user's process.
type execed struct {
	at      time.Time
	runtime int32
	process hook.Process
	isChild bool // in the runtime's own PID namespace: that it is an init is only known now
}

func (in execed) apply(t *tracker) {
	c := t.byInit[in.process.PID]
	if pending := t.byRuntime[in.runtime]; in.isChild && pending != nil && pending.Init.PID == 0 {
		t.setInit(pending, in.process, in.at)
		c = pending
	}
	if c == nil || identityOf(c.Init) != identityOf(in.process) || c.begun() {
		return
	}
	c.Init = in.process
	if c.State == hook.Creating { // by run, which does not stop between create and start
		c.State = hook.Created
		t.tell(c)
	}
	c.State, c.StartTime = hook.Running, in.at
	t.tell(c)
}

// starting: a runtime is held at start. The init waits too, so everything about it can be read.
type starting struct {
	at   time.Time
	of   instance
	init hook.Process // as the runtime's state names it and the kernel describes it; zero when it could not be read
	done chan struct{}
}

func (in starting) apply(t *tracker) {
	c := t.byID[in.of]
	for _, pending := range t.byRuntime {
		if pending.instance() != in.of || pending.Init.PID != 0 {
			continue
		}
		// The end of the runtime that made it is still on its way to us, by another road.
		if p, ok := t.orphan(pending); ok {
			t.setInit(pending, p, in.at)
			c = pending
		}
	}
	if c == nil || c.State == hook.Stopped || c.begun() {
		return
	}
	switch identityOf(in.init) {
	case identityOf(c.Init):
		c.Init = in.init
	case identity{}:
		c.Problem = "the runtime's state could not be read at start"
	default:
		c.Problem = "the runtime's state names another init than the kernel saw"
	}
	c.State = hook.Created
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
