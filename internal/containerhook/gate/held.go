package gate

// held is one task that waits in execve.
type held struct {
	fd            int32 // the event's
	user          bool
	readAt, until int64 // CLOCK_MONOTONIC, ns
}

// heldQueue has what waits for the worker, the oldest first: all have the same deadline. For one goroutine.
type heldQueue struct {
	waiting map[uint64]held // by ID
	order   []uint64        // IDs from the oldest on; some may be answered already
	last    uint64          // ID that was given last; the first is 1
	users   int             // of waiting
}

func newHeldQueue() heldQueue { return heldQueue{waiting: map[uint64]held{}} }

func (q *heldQueue) len() int { return len(q.waiting) }

// add returns the ID that h has from now on.
func (q *heldQueue) add(h held) uint64 {
	q.last++
	q.waiting[q.last] = h
	q.order = append(q.order, q.last)
	if h.user {
		q.users++
	}
	return q.last
}

// take removes what has that ID, if anything still has.
func (q *heldQueue) take(id uint64) (held, bool) {
	h, ok := q.waiting[id]
	if !ok {
		return held{}, false
	}
	delete(q.waiting, id)
	if h.user {
		q.users--
	}
	return h, true
}

// oldest is what has waited longest.
func (q *heldQueue) oldest() (uint64, held, bool) {
	for len(q.order) > 0 {
		if h, ok := q.waiting[q.order[0]]; ok {
			return q.order[0], h, true
		}
		q.order = q.order[1:]
	}
	q.order = nil // gives the memory back
	return 0, held{}, false
}

// next is when the next deadline is over.
func (q *heldQueue) next() (at int64, ok bool) {
	_, h, ok := q.oldest()
	return h.until, ok
}
