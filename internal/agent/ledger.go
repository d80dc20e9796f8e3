package agent

import "github.com/containerhook/containerhook/api/v1alpha1"

// What the API has of a Set's objects, as far as the Set was told.

// find returns a copy of the member with an object's name.
func (s *Set) find(name string) (member, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.members[s.names[name]]
	if !ok {
		return member{}, false
	}
	return *m, true
}

// begin reports, once, that nobody was asked yet to write the object with a name. What changes while it is created waits
// for its status.
func (s *Set) begin(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.members[s.names[name]]
	if !ok || m.begun || m.Created {
		return false
	}
	m.begun = true
	return true
}

// created notes whether the API has an object of that name.
func (s *Set) created(name string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[s.names[name]]; ok {
		m.Created = yes
		s.note(m)
	}
}

// settled notes that the API has the object as written, or needs nothing of it any more.
func (s *Set) settled(written *v1alpha1.NodeContainer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[s.names[written.Name]]; ok && m.Object == written {
		m.Settled = true
		s.note(m)
	}
}

// unsettled returns the names of the objects that the API does not have as they are here, to be written.
func (s *Set) unsettled() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, key := range s.names {
		if m := s.members[key]; !m.Settled {
			m.begun = true
			names = append(names, name)
		}
	}
	return names
}

// counts are the figures that a NodeContainerAgent tells.
type counts struct{ live, missing, failed, dropped int }

func (s *Set) counts() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := counts{failed: s.failed, dropped: s.dropped}
	for _, m := range s.members {
		if m.Hidden {
			continue
		}
		if m.Object.Status.State != v1alpha1.StateStopped {
			c.live++
		}
		if !m.Created {
			c.missing++
		}
	}
	return c
}
