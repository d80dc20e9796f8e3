package desired

import "github.com/containerhook/containerhook/api/v1alpha1"

// What the API has of a Set's objects, as far as the Set knows.

// Next returns the object of a name where the API does not have it as it is here, and whether the API has one of that name
// at all. It is nil where nothing is to be written.
func (s *Set) Next(name string) (object *v1alpha1.NodeContainer, created bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.members[s.names[name]]
	if !ok || m.Settled {
		return nil, false
	}
	return m.Object, m.Created
}

// Begin reports, once, that nobody was asked yet to write the object with a name. What changes while it is created waits
// for its status.
func (s *Set) Begin(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.members[s.names[name]]
	if !ok || m.begun || m.Created {
		return false
	}
	m.begun = true
	return true
}

// Created notes whether the API has an object of that name.
func (s *Set) Created(name string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[s.names[name]]; ok {
		m.Created = yes
		s.note(m)
	}
}

// Settled notes that the API has the object as written, or needs nothing of it any more.
func (s *Set) Settled(written *v1alpha1.NodeContainer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.members[s.names[written.Name]]; ok && m.Object == written {
		m.Settled = true
		s.note(m)
	}
}

// Unsettle notes that the API may have none of the objects any more. Those of containers that stopped are not missed.
func (s *Set) Unsettle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.Object.Status.State != v1alpha1.StateStopped {
			m.Settled = false
			s.note(m)
		}
	}
}

// BeginAll returns the names of the objects that the API does not have as they are here: whoever asks is to write them.
func (s *Set) BeginAll() []string {
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

// Counts are figures of a Set.
type Counts struct {
	Live    int // containers that have not stopped
	Missing int // containers of which the API has no object
	Failed  int // creates that failed so far
	Dropped int // containers left out or forgotten so far, because the Set was full, that the API does not have as they were
	LeftOut int // containers that are left out now
}

// Counts returns them as they are now. Hidden sandboxes do not count.
func (s *Set) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{Failed: s.failed, Dropped: s.dropped, LeftOut: len(s.left)}
	for _, m := range s.members {
		if m.Hidden {
			continue
		}
		if m.Object.Status.State != v1alpha1.StateStopped {
			c.Live++
		}
		if !m.Created {
			c.Missing++
		}
	}
	return c
}
