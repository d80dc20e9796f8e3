package agent

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// patience is how all writes wait after a failure of the API or of the way to it: an API server that comes back is not
// to meet all agents of a cluster, with all their objects, at once.
var patience = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: 5 * time.Second}

// maxTurn is how long a write waits for another one that tries whether the API still fails.
const maxTurn = time.Second

// maxPause bounds what an API server can ask for by Retry-After.
const maxPause = time.Minute

// pause holds writes back. Safe for concurrent use.
type pause struct {
	turn chan struct{} // held by the one write that tries while the API fails

	mu      sync.Mutex
	fails   bool // the last write did
	until   time.Time
	backoff wait.Backoff
}

func newPause() *pause { return &pause{turn: make(chan struct{}, 1), backoff: patience} }

// failed begins a pause, or with Retry-After makes it longer. It returns its length, 0 where the failure is of before
// the one that began it.
func (p *pause) failed(err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	seconds, asked := apierrors.SuggestsClientDelay(err)
	if now.Before(p.until) && !asked {
		return 0
	}
	p.fails = true
	d := p.backoff.Step()
	if asked {
		d = max(d, wait.Jitter(min(time.Duration(seconds)*time.Second, maxPause), 0.1))
	}
	if until := now.Add(d); until.After(p.until) {
		p.until = until
	}
	return d
}

// ended says that the API has answered: the next pause is a short one.
func (p *pause) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails, p.backoff = false, patience
}

func (p *pause) isOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.until)
}

// enter returns when a write may be tried, or ctx has ended: no pause is on, and no other write tries whether the API
// still fails. leave is called after its failure has been logged.
func (p *pause) enter(ctx context.Context) (leave func()) {
	for {
		p.mu.Lock()
		fails, left := p.fails, time.Until(p.until)
		p.mu.Unlock()
		if left > 0 {
			select {
			case <-ctx.Done():
				return func() {}
			case <-time.After(left):
			}
			continue
		}
		leave = func() {}
		if !fails {
			return leave
		}
		select {
		case <-ctx.Done():
			return leave
		case <-time.After(maxTurn): // who has the turn has no answer
		case p.turn <- struct{}{}:
			leave = func() { <-p.turn }
		}
		if !p.isOn() { // nobody has failed meanwhile
			return leave
		}
		leave()
	}
}
