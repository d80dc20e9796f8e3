package supervisor

import "time"

const (
	firstPause = 100 * time.Millisecond // a single crash costs hardly anything
	lastPause  = 30 * time.Second
	window     = time.Minute      // crashes further apart have nothing to do with each other
	tooMany    = 5                // in one window: hooking does more harm than good here
	hookOffFor = 10 * time.Minute // then it is tried again
)

// crashes decides how long to wait before the next worker, and whether it may hook. The zero value has seen none.
type crashes struct {
	recent []time.Time // within the window of the last one
	off    time.Time   // no hook until then
}

// add notes a crash and returns how long to wait: doubled with each crash in the window.
func (c *crashes) add(now time.Time) time.Duration {
	kept := c.recent[:0]
	for _, at := range c.recent {
		if now.Sub(at) < window {
			kept = append(kept, at)
		}
	}
	c.recent = append(kept, now)
	if len(c.recent) >= tooMany {
		c.off = now.Add(hookOffFor)
	}
	return min(firstPause<<min(len(c.recent)-1, 16), lastPause)
}

// hookOff is how long a worker that starts now has to leave the runtimes alone; 0 where it may hook.
func (c *crashes) hookOff(now time.Time) time.Duration { return max(c.off.Sub(now), 0) }
