// Package tracker turns what the gate, the kernel and the listing say into the life of each container. It decides and reads
// nothing: no file, no clock, no kernel. What it has to know it asks for by requests, and hears as inputs.
package tracker

import (
	"cmp"
	"maps"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/event"
)

// Tracker turns what the gate, the kernel and the listing say into the life of each container. It is a plain value for
// one goroutine, without clock and without effect: the same inputs give the same events and the same requests.
type Tracker struct {
	byID      map[Instance]*container // from its init on; a stopped one until a listing no longer shows it
	byInit    map[int32]*container    // while the init lives
	byRuntime map[int32]*container    // while its create, run or restore runs
	resolving map[Instance]*container // while a request is out for its init, and its runtime is done
	// undescribed are those whose facts are being read, by the serial of their held exec.
	undescribed map[uint64]*container
	early       map[int32]*container // by pid: the inits that early is about
	names       map[Instance]string  // by ID and user: what conmon calls it, until the container comes

	out      []event.Event
	requests []Instance // whose init is to be resolved; the answer is an input, resolved
	Released []release  // execs held at start that may go on once out has been handled
	// Counts for the caller of step, which resets them.
	Missed int // containers that the hook should have seen, and the listing had to find
	Ended  int // containers that are kept although they stopped
}

// Instance is how a runtime knows a container: an ID in a state directory. Users cannot speak for each other's: what they
// call a state directory is their own affair.
type Instance struct {
	Root, ID string
	UID      uint32 // whose container: the runtime's effective user in the initial user namespace
}

// Identity identifies a process: a pid alone is reused.
type Identity struct {
	PID   int32
	ticks uint64
}

// IdentityOf is that of p.
func IdentityOf(p event.Process) Identity { return Identity{p.PID, p.StartTicks} }

// container is one that is followed.
type container struct {
	event.Container
	uid     uint32 // as in instance
	verb    Verb
	detach  bool        // the runtime does not wait for its end
	spec    *specs.Spec // until the first event carries it
	hostPID bool        // it has no PID namespace of its own
	emitted bool
	late    bool // as in Created

	undescribed bool       // its facts are still being read: nothing happens to it before
	early       []Input    // what the kernel has reported of it meanwhile
	starts      []Starting // held at start until the facts, or the init, are known

	runtime event.Process // at work on it; zero when none is
	end     *Exited       // of the init, while its runtime is still to say whether that is a failed create
	failed  *int32        // the runtime's code, while its init is still to say whether that is a failed create
}

// maxNames bounds names: conmon is given a name for each container, and some of them never come.
const maxNames = 1024

// New knows of no container.
func New() *Tracker {
	return &Tracker{byID: map[Instance]*container{}, byInit: map[int32]*container{},
		byRuntime: map[int32]*container{}, resolving: map[Instance]*container{},
		undescribed: map[uint64]*container{}, early: map[int32]*container{}, names: map[Instance]string{}}
}

// Input is something that happened.
type Input interface{ apply(*Tracker) }

// Step returns what is to be published after in, in order, and whose inits are to be resolved.
func (t *Tracker) Step(in Input) ([]event.Event, []Instance) {
	t.out, t.requests, t.Released = nil, nil, nil
	in.apply(t)
	return t.out, t.requests
}

// postpone keeps what the kernel reports of a container whose facts are still being read: which init is its own, they say.
func (t *Tracker) postpone(c *container, in Input) bool {
	if c == nil || !c.undescribed {
		return false
	}
	c.early = append(c.early, in)
	return true
}

// emit adds an event of c as it is now.
func (t *Tracker) emit(c *container) {
	e := event.Event{Container: c.Container}
	if !c.emitted {
		e.Spec, c.spec, c.emitted = c.spec, nil, true
	}
	t.out = append(t.out, e)
}

func (c *container) instance() Instance { return Instance{c.Runtime.Root, c.ID, c.uid} }
func (c *container) begun() bool        { return c.State == event.Running }

// setInit makes p the init of c; from here on c is what its ID means.
func (t *Tracker) setInit(c *container, p event.Process, at time.Time) {
	if before := t.byInit[p.PID]; before != nil && before != c {
		t.finish(before, at, nil, event.ExitUnknown) // its pid is another process's: its end was lost
	}
	c.Init = p
	t.byInit[p.PID] = c
	t.byID[c.instance()] = c
}

// request asks for the init of c, as its runtime's state on disk names it: one in the host's PID namespace cannot be distinguished
// from its runtime's other children before it executes something.
func (t *Tracker) request(c *container) { t.requests = append(t.requests, c.instance()) }

// isAnothers reports whether p is another container's init already: whoever executes a runtime for nothing, with the ID
// of a container that is there, does not take it over.
func (t *Tracker) isAnothers(p event.Process, c *container) bool {
	other := t.byInit[p.PID]
	return other != nil && other != c && IdentityOf(other.Init) == IdentityOf(p)
}

// Resolved answers a request.
type Resolved struct {
	At      time.Time
	Of      Instance
	Init    event.Process // as the state names it and the kernel describes it; its end is reported from now on. Zero for none
	Waiting bool          // for its start
}

func (in Resolved) apply(t *Tracker) {
	c := t.resolving[in.Of]
	if c == nil {
		for _, pending := range t.byRuntime { // its runtime is not done, and its start is held
			if pending.instance() == in.Of && len(pending.starts) > 0 {
				c = pending
			}
		}
	}
	if c == nil {
		return
	}
	if in.Init.PID != 0 && !t.isAnothers(in.Init, c) && (c.Init.PID == 0 || IdentityOf(c.Init) == IdentityOf(in.Init)) {
		t.setInit(c, in.Init, in.At)
	}
	if t.resolving[in.Of] == c {
		delete(t.resolving, in.Of)
		t.runtimeResolved(c, in)
	}
	t.resumeStarts(c)
}

// resumeStarts lets those go on that waited to know more of c.
func (t *Tracker) resumeStarts(c *container) {
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

// Verb is the command by which a runtime makes a container.
type Verb string

const (
	Create  Verb = "create"
	Run     Verb = "run"
	Restore Verb = "restore"
)

// Created is that a runtime is held at create, run or restore.
type Created struct {
	At      time.Time
	Runtime event.Process // the one that is held
	UID     uint32        // its effective user
	By      event.Runtime
	ID      string
	Verb    Verb
	Detach  bool   // the runtime does not wait for the container's end
	Serial  uint64 // of this held exec; Described follows with the same
	Late    bool   // it runs already, not followed from its beginning: what it did until now was not seen
}

// Facts are what is read of a create after its answer.
type Facts struct {
	Root    string // the runtime's state directory, without symlinks
	Bundle  string
	Spec    *specs.Spec // nil where it could not be read, and then problem says why
	Problem string
}

func (in Created) apply(t *Tracker) {
	name := Instance{ID: in.ID, UID: in.UID}
	c := &container{
		Container: event.Container{ID: in.ID, Name: t.names[name], Runtime: in.By,
			Rootless: in.UID != 0, Source: event.FromHook, State: event.Creating, CreateTime: in.At},
		uid: in.UID, verb: in.Verb, detach: in.Detach, runtime: in.Runtime,
		late: in.Late, undescribed: true}
	switch before := t.byRuntime[in.Runtime.PID]; {
	case before == nil:
	case IdentityOf(before.runtime) != IdentityOf(in.Runtime): // its pid is another process's: its end was lost
		t.runtimeEnded(before, in.At, nil)
	case before.Init.PID != 0 || len(before.early) > 0:
		return // it makes one already
	default: // a wrapper that became the runtime, or crun's copy of itself: the later one knows better
		c.Name, c.CreateTime, c.late = before.Name, before.CreateTime, before.late
	}
	delete(t.names, name)
	t.byRuntime[in.Runtime.PID], t.undescribed[in.Serial] = c, c
}

// Described is that the config.json of what a runtime makes has been read, or cannot be.
type Described struct {
	Serial uint64 // as in Created
	Facts  *Facts
}

func (in Described) apply(t *Tracker) {
	if c := t.undescribed[in.Serial]; c != nil {
		delete(t.undescribed, in.Serial)
		t.describe(c, in.Facts)
	}
}

// describe gives c its facts, and lets happen what the kernel has reported of it meanwhile.
func (t *Tracker) describe(c *container, f *Facts) {
	c.undescribed, c.Runtime.Root, c.Bundle, c.Problem, c.spec = false, cmp.Or(f.Root, c.Runtime.Root), f.Bundle, f.Problem, f.Spec
	c.hostPID = f.Spec != nil && f.Spec.Linux != nil
	if c.hostPID {
		for _, ns := range f.Spec.Linux.Namespaces {
			c.hostPID = c.hostPID && ns.Type != specs.PIDNamespace
		}
	}
	early, starts := c.early, c.starts
	c.early, c.starts = nil, nil
	for _, in := range early {
		if f, isFork := in.(Forked); isFork {
			delete(t.early, f.Init.PID)
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

// Named is that conmon is about to have a container made.
type Named struct {
	ID, Name string
	UID      uint32 // conmon's effective user
}

func (in Named) apply(t *Tracker) {
	if len(t.names) >= maxNames { // only names are lost, and only those of containers that have not come for so many others
		maps.DeleteFunc(t.names, func(of Instance, _ string) bool { return in.UID == 0 || of.UID != 0 })
	}
	t.names[Instance{ID: in.ID, UID: in.UID}] = in.Name
}

// Forked is that below a runtime something entered another PID namespace.
type Forked struct {
	At      time.Time
	Runtime int32
	Init    event.Process
}

func (in Forked) apply(t *Tracker) {
	c := t.byRuntime[in.Runtime]
	if t.postpone(c, in) {
		t.early[in.Init.PID] = c
		return
	}
	if c == nil || c.Init.PID != 0 || c.hostPID {
		return // an OCI hook that enters the container is not a second init, nor is one that makes a namespace of its own
	}
	t.setInit(c, in.Init, in.At)
	if c.verb == Restore && !c.detach { // what is restored executes nothing, and this runtime waits for its end
		c.State, c.StartTime = event.Running, in.At
	}
	t.emit(c)
}

// Execed is that an init has become the user's process.
type Execed struct {
	At      time.Time
	Runtime int32
	Process event.Process
	IsChild bool // in the runtime's own PID namespace: that it is an init is only known now
}

func (in Execed) apply(t *Tracker) {
	if t.postpone(t.byRuntime[in.Runtime], in) || t.postpone(t.early[in.Process.PID], in) {
		return
	}
	c := t.byInit[in.Process.PID]
	if pending := t.byRuntime[in.Runtime]; in.IsChild && pending != nil && pending.Init.PID == 0 {
		t.setInit(pending, in.Process, in.At)
		c = pending
	}
	if c == nil || IdentityOf(c.Init) != IdentityOf(in.Process) || c.begun() {
		return
	}
	c.Init = in.Process
	if c.State == event.Creating { // by run, which does not stop between create and start
		c.State = event.Created
		t.emit(c)
	}
	c.State, c.StartTime = event.Running, in.At
	t.emit(c)
}

// Starting is that a runtime is held at start. The init waits too, so everything about it can be read.
type Starting struct {
	At    time.Time
	Of    Instance
	Init  event.Process // as the runtime's state names it and the kernel describes it; zero when it could not be read
	Again bool          // its state has been listed since
	Done  chan bool     // gets once whether the container is one that nobody knows of; has room for it. May be nil
}

// release lets an exec that is held at start go on, and says whether nobody knows of its container.
type release struct {
	Done    chan<- bool
	Unknown bool
}

func (t *Tracker) release(in Starting, unknown bool) {
	if in.Done != nil {
		t.Released = append(t.Released, release{in.Done, unknown})
	}
}

func (in Starting) apply(t *Tracker) {
	for _, pending := range t.byRuntime {
		switch {
		case pending.undescribed && pending.ID == in.Of.ID && pending.uid == in.Of.UID:
			// The promise is that all is known before its process begins. Its root may not be known as it is yet.
			pending.starts = append(pending.starts, in)
			return
		case pending.instance() == in.Of && pending.Init.PID == 0:
			// The end of the runtime that made it is still on its way to us, by another road.
			pending.starts = append(pending.starts, in)
			t.request(pending)
			return
		}
	}
	if pending := t.resolving[in.Of]; pending != nil {
		pending.starts = append(pending.starts, in)
		return
	}
	if !in.Again && t.misses(in) {
		t.release(in, true)
		return
	}
	c := t.byID[in.Of]
	if c == nil || c.State == event.Stopped || c.begun() {
		t.release(in, false)
		return
	}
	switch IdentityOf(in.Init) {
	case IdentityOf(c.Init):
		c.Init = in.Init
	case Identity{}:
		c.Problem = "the runtime's state could not be read at start"
	default:
		c.Problem = "the runtime's state names another init than the kernel saw"
	}
	c.State = event.Created
	t.emit(c)
	t.release(in, false)
}

// OOMKilled is that something below an init was killed for want of memory.
type OOMKilled struct{ Init int32 }

func (in OOMKilled) apply(t *Tracker) {
	if t.postpone(t.early[in.Init], in) {
		return
	}
	if c := t.byInit[in.Init]; c != nil && !c.OOMKilled {
		c.OOMKilled = true
		t.emit(c)
	}
}
