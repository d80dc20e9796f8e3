package desired

import (
	"cmp"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/object"
)

// Options are what a Set must know of its node and its user.
type Options struct {
	object.Options

	Sandboxes  bool // report pod sandboxes too; default false
	MaxObjects int  // how many containers to keep; default 2,000
}

const (
	// DefaultMaxObjects is how many containers a Set keeps by default, 4 KB each: most nodes run a few hundred.
	DefaultMaxObjects = 2000
	// maxEnded is how many it keeps before those go that have ended and that the API has: they serve nobody here.
	maxEnded = 500
)

// Set is the containers of this node as they should be known. It is a function of the events applied to it, whatever
// was repeated or came late. Safe for concurrent use; the objects that it returns are never changed afterwards, neither
// by it nor by their receiver.
type Set struct {
	options Options

	mu      sync.Mutex
	members map[event.Key]*member
	names   map[string]event.Key // of the members that are not hidden
	left    map[event.Key]bool   // those that were left out and have not ended: none is taken in later, without its facts
	dropped int
	failed  int
	changes int // grows with each change of what a checkpoint holds
}

// member is one container. Its exported fields are what a checkpoint holds of it.
type member struct {
	Container event.Container // as it was reported last
	Object    *v1alpha1.NodeContainer
	Source    event.Source // of the first event
	Problem   string       // why facts are missing that only the first event could bring
	Hidden    bool         // a sandbox that nobody asked for: kept so that its later events are known as a sandbox's
	Created   bool         // the API has an object of its name
	Settled   bool         // the API has the object as it is here

	raw   []byte // all of this in JSON; nil since the last change
	begun bool   // somebody was asked to write it
}

// NewSet returns an empty Set.
func NewSet(o Options) *Set {
	o.MaxObjects = cmp.Or(o.MaxObjects, DefaultMaxObjects)
	return &Set{options: o, members: map[event.Key]*member{}, names: map[string]event.Key{}, left: map[event.Key]bool{}}
}

// Apply takes an event in. It returns the container's object as it now is, and whether the event changed it: nil and
// false where the container is not reported, a sandbox or one too many.
func (s *Set) Apply(e event.Event) (*v1alpha1.NodeContainer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := e.Key()
	m, known := s.members[key]
	switch {
	case known && object.IsLate(e.State, m.Object.Status.State):
		return m.visible(), false
	case s.left[key]:
		if e.State == event.Stopped {
			delete(s.left, key)
		}
		return nil, false
	case !known:
		m = s.newMember(&e)
		if !s.makeRoom(m.Hidden) {
			if e.State != event.Stopped {
				s.left[key] = true
			}
			return nil, false
		}
	}
	next := *m.Object
	next.Status = object.Next(m.Object, &e, m.Source, cmp.Or(m.Problem, e.Problem), &s.options.Options)
	m.Container, m.raw = e.Container, nil

	changed := !known || !equality.Semantic.DeepEqual(m.Object.Status, next.Status)
	if changed {
		if next.Status.Reason == v1alpha1.StopCreateFailed && m.Object.Status.Reason != next.Status.Reason {
			s.failed++
		}
		m.Object, m.Settled = &next, false
		s.add(key, m)
	}
	return m.visible(), changed && !m.Hidden
}

func (s *Set) add(key event.Key, m *member) {
	s.members[key] = m
	if !m.Hidden {
		s.names[m.Object.Name] = key
	}
	s.note(m)
}

// note has the next checkpoint hold m as it is now.
func (s *Set) note(m *member) {
	m.raw = nil
	s.changes++
}

// visible returns what others may see of m.
func (m *member) visible() *v1alpha1.NodeContainer {
	if m.Hidden {
		return nil
	}
	return m.Object
}

func (s *Set) newMember(e *event.Event) *member {
	m := &member{Source: e.Source, Object: object.New(e, &s.options.Options)}
	if e.Spec == nil {
		m.Problem = cmp.Or(e.Problem, "config.json was not read when the container was first seen")
	}
	m.Hidden = m.Object.Spec.Type == v1alpha1.TypeSandbox && !s.options.Sandboxes
	return m
}

// makeRoom reports whether one more container can be kept, for which it may forget one that has finished: one that is
// settled before one that is not, and of those the first. Those that are alive stay: a newcomer is refused. Hidden ones
// are counted apart.
func (s *Set) makeRoom(hidden bool) bool {
	few := min(maxEnded, s.options.MaxObjects)
	if len(s.members) < few {
		return true
	}
	count := 0
	var leaves *member
	for _, m := range s.members {
		if m.Hidden != hidden {
			continue
		}
		count++
		if m.Object.Status.State == v1alpha1.StateStopped && (leaves == nil || m.leavesBefore(leaves)) {
			leaves = m
		}
	}
	settled := leaves != nil && leaves.Settled
	switch {
	case count < few, count < s.options.MaxObjects && !settled:
		return true
	case leaves == nil:
		s.dropped++
		return false
	case !settled:
		s.dropped++
	}
	delete(s.members, leaves.Container.Key())
	delete(s.names, leaves.Object.Name)
	return true
}

// leavesBefore compares two that have finished.
func (m *member) leavesBefore(other *member) bool {
	if m.Settled != other.Settled {
		return m.Settled
	}
	if m.Object.Status.FinishTime == nil || other.Object.Status.FinishTime == nil { // nobody knows when: those go first
		return m.Object.Status.FinishTime == nil
	}
	return m.Object.Status.FinishTime.Before(other.Object.Status.FinishTime)
}
