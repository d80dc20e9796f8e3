package agent

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/hook"
)

// Options are what a Set must know of its node and its user.
type Options struct {
	NodeName string // required: a DNS subdomain, as a Node's name is
	BootID   string // required: /proc/sys/kernel/random/boot_id

	// HostNamespaces returns those of the node's process 1. Of one that is 0 the containers' status.hostNamespaces do not
	// tell; of none by default. It is called for each event.
	HostNamespaces func() hook.Namespaces

	Annotations []string         // keys of annotations to copy into objects, at most 16; default none
	Sandboxes   bool             // tell of pod sandboxes too; default false
	MaxObjects  int              // how many containers to keep; default 500
	Now         func() time.Time // when a condition changed; default time.Now
}

// DefaultMaxObjects is how many containers a Set keeps by default: a node has at most a few hundred.
const DefaultMaxObjects = 500

// Set is the containers of this node as they should be known. It is a function of the events applied to it, whatever
// was repeated or came late. It belongs to one goroutine; the objects that it returns are never changed afterwards,
// neither by it nor by their receiver, and can be read by any.
type Set struct {
	options Options
	members map[hook.Key]member
	dropped int
}

type member struct {
	object  *v1alpha1.NodeContainer
	source  hook.Source // of the first event
	problem string      // why facts are missing that only the first event could bring
	hidden  bool        // a sandbox that nobody asked for: kept so that its later events are known as a sandbox's
}

// NewSet returns an empty Set.
func NewSet(o Options) *Set {
	o.MaxObjects = cmp.Or(o.MaxObjects, DefaultMaxObjects)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.HostNamespaces == nil {
		o.HostNamespaces = func() hook.Namespaces { return hook.Namespaces{} }
	}
	return &Set{options: o, members: make(map[hook.Key]member)}
}

// Dropped returns how often a container was left out or forgotten because the Set was full.
func (s *Set) Dropped() int { return s.dropped }

// Apply takes an event in. It returns the container's object as it now is, and whether the event changed it: nil and
// false where the container is not told of, a sandbox or one too many.
func (s *Set) Apply(e hook.Event) (*v1alpha1.NodeContainer, bool) {
	key := e.Key()
	m, known := s.members[key]
	switch {
	case known && rank[v1alpha1.ContainerState(e.State)] < rank[m.object.Status.State]: // it came late
		return m.told(), false
	case !known:
		m = s.newMember(&e)
		if !s.makeRoom(m.hidden) {
			return nil, false
		}
	}
	next := *m.object
	next.Status = merged(m.object.Status, statusOf(&e, s.options.HostNamespaces()))
	next.Status.Conditions = withConditions(m.object.Status.Conditions, m.source,
		cmp.Or(m.problem, e.Problem), len(next.Spec.Truncated) > 0, s.options.Now())

	changed := !known || !equality.Semantic.DeepEqual(m.object.Status, next.Status)
	if changed {
		m.object = &next
		s.members[key] = m
	}
	return m.told(), changed && !m.hidden
}

// told returns what others may see of m.
func (m *member) told() *v1alpha1.NodeContainer {
	if m.hidden {
		return nil
	}
	return m.object
}

func (s *Set) newMember(e *hook.Event) member {
	m := member{source: e.Source, object: &v1alpha1.NodeContainer{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.NodeContainerKind},
		ObjectMeta: metav1.ObjectMeta{Name: Name(s.options.NodeName, s.options.BootID, e.Key())},
		Spec:       specOf(e, &s.options),
	}}
	if e.Spec == nil {
		m.problem = cmp.Or(e.Problem, "config.json was not read when the container was first seen")
	}
	m.hidden = m.object.Spec.Type == v1alpha1.TypeSandbox && !s.options.Sandboxes
	return m
}

// makeRoom reports whether one more container can be kept, for which it may forget the one that finished first. Those
// that are alive stay: a newcomer is refused. Hidden ones are counted apart.
func (s *Set) makeRoom(hidden bool) bool {
	count, found := 0, false
	var first hook.Key
	var finished time.Time
	for key, m := range s.members {
		if m.hidden != hidden {
			continue
		}
		count++
		if m.object.Status.State != v1alpha1.StateStopped {
			continue
		}
		var t time.Time // zero where nobody knows when: those go first
		if m.object.Status.FinishTime != nil {
			t = m.object.Status.FinishTime.Time
		}
		if !found || t.Before(finished) {
			first, finished, found = key, t, true
		}
	}
	if count < s.options.MaxObjects {
		return true
	}
	s.dropped++
	if found {
		delete(s.members, first)
	}
	return found
}
