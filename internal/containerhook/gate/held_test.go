package gate

import "testing"

func TestTheQueueForgetsWhatIsTaken(t *testing.T) {
	q := newHeldQueue()
	first := q.add(held{fd: 1, until: 10})
	second := q.add(held{fd: 2, until: 20, user: true})
	if at, ok := q.next(); !ok || at != 10 || q.len() != 2 || q.users != 1 {
		t.Errorf("next %d, %v of %d, %d of users", at, ok, q.len(), q.users)
	}
	if h, ok := q.take(first); !ok || h.fd != 1 {
		t.Errorf("took %+v, %v", h, ok)
	}
	if _, ok := q.take(first); ok {
		t.Error("took it twice")
	}
	if id, h, ok := q.oldest(); !ok || id != second || h.fd != 2 {
		t.Errorf("the oldest is %d, %+v, %v", id, h, ok)
	}
	q.take(second)
	if _, ok := q.next(); ok || q.len() != 0 || q.users != 0 || q.order != nil {
		t.Errorf("something is left: %+v", q)
	}
}
