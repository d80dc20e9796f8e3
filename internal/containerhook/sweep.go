package containerhook

import (
	"context"
	"time"

	"github.com/containerhook/containerhook/internal/containerhook/tracker"
)

// sweep finds runtimes and inits that died unseen. One that is dead in two sweeps is: what the kernel reported has been
// heard by then.
func (h *Hook) sweep(ctx context.Context, suspects map[tracker.Identity]bool) map[tracker.Identity]bool {
	reply := make(chan []tracker.Vanished, 1)
	h.sender(ctx)(tracker.Census{Reply: reply})
	dead := map[tracker.Identity]bool{}
	select {
	case <-ctx.Done():
	case live := <-reply:
		for _, in := range live {
			t, err := h.look(in.Process.PID)
			if err == nil && tracker.IdentityOf(t.Process()) == tracker.IdentityOf(in.Process) || err != nil && !isGone(err) {
				continue
			}
			id := tracker.IdentityOf(in.Process)
			if dead[id] = true; suspects[id] {
				in.At = time.Now()
				h.sender(ctx)(in)
			}
		}
	}
	return dead
}
