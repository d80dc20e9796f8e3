package containerhook

import (
	"errors"
	"sync"
	"time"
)

// status is how the hook does, where no other part knows it. Safe for concurrent use.
type status struct {
	mu     sync.Mutex
	hooked bool      // guarded by mu
	why    error     // the node cannot be hooked; guarded by mu
	listed time.Time // guarded by mu
	unread int       // by that listing; guarded by mu
}

func (s *status) setHooked(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooked, s.why = why == nil, why
}

// isHooked is false until setHooked, and where that had a reason.
func (s *status) isHooked() (hooked bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hooked, s.why
}

func (s *status) setListed(at time.Time, unread int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed, s.unread = at, unread
}

// lastListing is zero before the first.
func (s *status) lastListing() (at time.Time, unread int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed, s.unread
}

func (s *status) ready() error {
	if at, _ := s.lastListing(); at.IsZero() {
		return errors.New("the node has not been listed yet")
	}
	return nil
}
