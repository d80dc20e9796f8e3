package containerhook

import (
	"cmp"
	"maps"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/hook"
)

// tracker turns what the gate, the kernel and the listing say into the life of each container. It is a plain value for
// one goroutine, without clock and without effect: the same inputs give the same events and the same requests.
type tracker struct {
	byID      map[instance]*container // from its init on; a stopped one until a listing no longer shows it
	byInit    map[int32]*container    // while the init lives
	byRuntime map[int32]*container    // while its create, run or restore runs
	resolving map[instance]*container // while a request is out for its init, and its runtime is done
	// undescribed are those whose facts are being read, by the serial of their held exec.
	undescribed map[uint64]*container
	early       map[int32]*container // by pid: the inits that early is about
	names       map[instance]string  // by ID and user: what conmon calls it, until the container comes

	out      []hook.Event
	requests []instance // whose init is to be resolved; the answer is an input, resolved
	released []release  // execs held at start that may go on once out has been handled
	// Counts for the caller of step, which resets them.
	missed int // containers that the hook should have seen, and the listing had to find
	ended  int // containers that are kept although they stopped
}

// instance is how a runtime knows a container: an ID in a state directory. Users cannot speak for each other's: what they
// call a state directory is their own affair.
type instance struct {
	root, id string
	uid      uint32 // whose container: the runtime's effective user in the initial user namespace
}

// identity identifies a process: a pid alone is reused.
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
	emitted bool
	late    bool // as in created

	undescribed bool       // its facts are still being read: nothing happens to it before
	early       []input    // what the kernel has reported of it meanwhile
	starts      []starting // held at start until the facts, or the init, are known

	runtime hook.Process // at work on it; zero when none is
	end     *exited      // of the init, while its runtime is still to say whether that is a failed create
	failed  *int32       // the runtime's code, while its init is still to say whether that is a failed create
}

// maxNames bounds names: conmon is given a name for each container, and some of them never come.
const maxNames = 1024

func newTracker() *tracker {
	return &tracker{byID: map[instance]*container{}, byInit: map[int32]*container{},
		byRuntime: map[int32]*container{}, resolving: map[instance]*container{},
		undescribed: map[uint64]*container{}, early: map[int32]*container{}, names: map[instance]string{}}
}

// input is something that happened.
type input interface{ apply(*tracker) }

// step returns what is to be published after in, in order, and whose inits are to be resolved.
func (t *tracker) step(in input) ([]hook.Event, []instance) {
	t.out, t.requests, t.released = nil, nil, nil
	in.apply(t)
	return t.out, t.requests
}

// postpone keeps what the kernel reports of a container whose facts are still being read: which init is its own, they say.
func (t *tracker) postpone(c *container, in input) bool {
	if c == nil || !c.undescribed {
		return false
	}
	c.early = append(c.early, in)
	return true
}

// emit adds an event of c as it is now.
func (t *tracker) emit(c *container) {
	e := hook.Event{Container: c.Container}
	if !c.emitted {
		e.Spec, c.spec, c.emitted = c.spec, nil, true
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

// request asks for the init of c, as its runtime's state on disk names it: one in the host's PID namespace cannot be distinguished
// from its runtime's other children before it executes something.
func (t *tracker) request(c *container) { t.requests = append(t.requests, c.instance()) }

// isAnothers reports whether p is another container's init already: whoever executes a runtime for nothing, with the ID
// of a container that is there, does not take it over.
func (t *tracker) isAnothers(p hook.Process, c *container) bool {
	other := t.byInit[p.PID]
	return other != nil && other != c && identityOf(other.Init) == identityOf(p)
}

// resolved answers a request.
type resolved struct {
	at      time.Time
	of      instance
	init    hook.Process // as the state names it and the kernel describes it; its end is reported from now on. Zero for none
	waiting bool         // for its start
}

func (in resolved) apply(t *tracker) {
	c := t.resolving[in.of]
	if c == nil {
		for _, pending := range t.byRuntime { // its runtime is not done, and its start is held
			if pending.instance() == in.of && len(pending.starts) > 0 {
				c = pending
			}
		}
	}
	if c == nil {
		return
	}
	if in.init.PID != 0 && !t.isAnothers(in.init, c) && (c.Init.PID == 0 || identityOf(c.Init) == identityOf(in.init)) {
		t.setInit(c, in.init, in.at)
	}
	if t.resolving[in.of] == c {
		delete(t.resolving, in.of)
		t.runtimeResolved(c, in)
	}
	t.resumeStarts(c)
}

// resumeStarts lets those go on that waited to know more of c.
func (t *tracker) resumeStarts(c *container) {
	starts := c.starts
	c.starts = nil
	for _, s := range starts {
		if c.Init.PID == 0 {
			t.release(s, false)
			continue
		}
		s.apply(t)
	}
}

// created: a runtime is held at create, run or restore.
type created struct {
	at      time.Time
	runtime hook.Process // the one that is held
	uid     uint32       // its effective user
	by      hook.Runtime
	command command
	serial  uint64 // of this held exec
	facts   *facts // nil while they are being read: then described follows
	late    bool   // it runs already, not followed from its beginning: what it did until now was not seen
}

// facts are what is read of a create after its answer.
type facts struct {
	root    string // the runtime's state directory, without symlinks
	bundle  string
	spec    *specs.Spec // nil where it could not be read, and then problem says why
	problem string
}

// parseFacts reads what is to be known of a config.json, which may be something with a problem too.
func parseFacts(runtime, root, bundle string, config []byte, err error) *facts {
	f := &facts{root: root, bundle: bundle}
	if err == nil {
		f.spec, err = parseConfig(config, runtime)
	}
	if err != nil {
		f.problem = err.Error()
	}
	return f
}

func (in created) apply(t *tracker) {
	name := instance{id: in.command.id, uid: in.uid}
	c := &container{
		Container: hook.Container{ID: in.command.id, Name: t.names[name], Runtime: in.by,
			Rootless: in.uid != 0, Source: hook.FromHook, State: hook.Creating, CreateTime: in.at},
		uid: in.uid, verb: in.command.verb, detach: in.command.detach, runtime: in.runtime,
		late: in.late, undescribed: true}
	if in.facts != nil {
		t.describe(c, in.facts)
	}
	switch before := t.byRuntime[in.runtime.PID]; {
	case before == nil:
	case identityOf(before.runtime) != identityOf(in.runtime): // its pid is another process's: its end was lost
		t.runtimeEnded(before, in.at, nil)
	case before.Init.PID != 0 || len(before.early) > 0:
		return // it makes one already
	default: // a wrapper that became the runtime, or crun's copy of itself: the later one knows better
		c.Name, c.CreateTime, c.late = before.Name, before.CreateTime, before.late
	}
	delete(t.names, name)
	t.byRuntime[in.runtime.PID] = c
	if c.undescribed {
		t.undescribed[in.serial] = c
	}
}

// described: the config.json of what a runtime makes has been read, or cannot be.
type described struct {
	serial uint64 // as in created
	facts  *facts
}

func (in described) apply(t *tracker) {
	if c := t.undescribed[in.serial]; c != nil {
		delete(t.undescribed, in.serial)
		t.describe(c, in.facts)
	}
}

// describe gives c its facts, and lets happen what the kernel has reported of it meanwhile.
func (t *tracker) describe(c *container, f *facts) {
	c.undescribed, c.Runtime.Root, c.Bundle, c.Problem, c.spec = false, cmp.Or(f.root, c.Runtime.Root), f.bundle, f.problem, f.spec
	c.hostPID = f.spec != nil && f.spec.Linux != nil
	if c.hostPID {
		for _, ns := range f.spec.Linux.Namespaces {
			c.hostPID = c.hostPID && ns.Type != specs.PIDNamespace
		}
	}
	early, starts := c.early, c.starts
	c.early, c.starts = nil, nil
	for _, in := range early {
		if f, isFork := in.(forked); isFork {
			delete(t.early, f.init.PID)
		}
	}
	for _, in := range early {
		if t.byRuntime[c.runtime.PID] == c || t.byID[c.instance()] == c { // else another one has its runtime's pid by now
			in.apply(t)
		}
	}
	for _, in := range starts {
		in.apply(t)
	}
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
	if t.postpone(c, in) {
		t.early[in.init.PID] = c
		return
	}
	if c == nil || c.Init.PID != 0 || c.hostPID {
		return // an OCI hook that enters the container is not a second init, nor is one that makes a namespace of its own
	}
	t.setInit(c, in.init, in.at)
	if c.verb == verbRestore && !c.detach { // what is restored executes nothing, and this runtime waits for its end
		c.State, c.StartTime = hook.Running, in.at
	}
	t.emit(c)
}

// execed: an init has become the user's process.
type execed struct {
	at      time.Time
	runtime int32
	process hook.Process
	isChild bool // in the runtime's own PID namespace: that it is an init is only known now
}

func (in execed) apply(t *tracker) {
	if t.postpone(t.byRuntime[in.runtime], in) || t.postpone(t.early[in.process.PID], in) {
		return
	}
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
		t.emit(c)
	}
	c.State, c.StartTime = hook.Running, in.at
	t.emit(c)
}

// starting: a runtime is held at start. The init waits too, so everything about it can be read.
type starting struct {
	at    time.Time
	of    instance
	init  hook.Process // as the runtime's state names it and the kernel describes it; zero when it could not be read
	again bool         // its state has been listed since
	done  chan bool    // gets once whether the container is one that nobody knows of; has room for it. May be nil
}

// release lets an exec that is held at start go on, and says whether nobody knows of its container.
type release struct {
	done    chan<- bool
	unknown bool
}

func (t *tracker) release(in starting, unknown bool) {
	if in.done != nil {
		t.released = append(t.released, release{in.done, unknown})
	}
}

func (in starting) apply(t *tracker) {
	for _, pending := range t.byRuntime {
		switch {
		case pending.undescribed && pending.ID == in.of.id && pending.uid == in.of.uid:
			// The promise is that all is known before its process begins. Its root may not be known as it is yet.
			pending.starts = append(pending.starts, in)
			return
		case pending.instance() == in.of && pending.Init.PID == 0:
			// The end of the runtime that made it is still on its way to us, by another road.
			pending.starts = append(pending.starts, in)
			t.request(pending)
			return
		}
	}
	if pending := t.resolving[in.of]; pending != nil {
		pending.starts = append(pending.starts, in)
		return
	}
	if !in.again && t.misses(in) {
		t.release(in, true)
		return
	}
	c := t.byID[in.of]
	if c == nil || c.State == hook.Stopped || c.begun() {
		t.release(in, false)
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
	t.emit(c)
	t.release(in, false)
}

// oomed: something below an init was killed for want of memory.
type oomed struct{ init int32 }

func (in oomed) apply(t *tracker) {
	if t.postpone(t.early[in.init], in) {
		return
	}
	if c := t.byInit[in.init]; c != nil && !c.OOMKilled {
		c.OOMKilled = true
		t.emit(c)
	}
}
