package containerhook

import (
	"context"
	"time"
)

// sweep finds runtimes and inits that died unseen. One that is dead in two sweeps is: what the kernel reported has been
// heard by then.
func (h *Hook) sweep(ctx context.Context, suspects map[identity]bool) map[identity]bool {
	reply := make(chan []vanished, 1)
	h.sender(ctx)(census{reply})
	dead := map[identity]bool{}
	select {
	case <-ctx.Done():
	case live := <-reply:
		for _, in := range live {
			t, err := h.look(in.process.PID)
			if err == nil && identityOf(t.Process()) == identityOf(in.process) || err != nil && !isGone(err) {
				continue
			}
			id := identityOf(in.process)
			if dead[id] = true; suspects[id] {
				in.at = time.Now()
				h.sender(ctx)(in)
			}
		}
	}
	return dead
}

// census asks for the runtimes and inits that should live, as what would be sent if one did not.
type census struct{ reply chan<- []vanished }

func (in census) apply(t *tracker) {
	live := make([]vanished, 0, len(t.byInit)+len(t.byRuntime))
	for _, c := range t.byInit {
		live = append(live, vanished{process: c.Init})
	}
	for _, c := range t.byRuntime {
		live = append(live, vanished{process: c.runtime, isRuntime: true})
	}
	in.reply <- live
}
