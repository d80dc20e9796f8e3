package containerhook

import (
	"context"

	"github.com/containerhook/containerhook/internal/containerhook/tracker"
)

// maxQueued is how many inputs may wait for the tracker before their senders do.
const maxQueued = 256

// queue is the way to the tracker and to the reconciler, of all who have seen something. Safe for concurrent use.
type queue struct {
	metrics *metrics
	inputs  chan tracker.Input
	relist  chan string // why a listing is wanted soon
}

func newQueue(m *metrics) *queue {
	return &queue{metrics: m, inputs: make(chan tracker.Input, maxQueued), relist: make(chan string, 1)}
}

// send gives an input to the tracker, unless ctx has ended.
func (q *queue) send(ctx context.Context, in tracker.Input) {
	select {
	case q.inputs <- in:
	case <-ctx.Done():
	}
}

// wantListing has the node listed soon, and counts why. It never blocks.
func (q *queue) wantListing(why string) {
	q.metrics.gap(why)
	q.listSoon(why)
}

// listSoon is wantListing where nothing can have been missed.
func (q *queue) listSoon(why string) {
	select {
	case q.relist <- why:
	default: // one is wanted already
	}
}
