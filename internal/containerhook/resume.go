package containerhook

import (
	"context"
	"time"

	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/hook"
)

// resume takes up what the agent before this one had known.
func (h *Hook) resume(ctx context.Context, known []hook.Container) {
	for _, c := range known {
		in := tracker.Resumed{At: time.Now(), Container: c}
		if c.Rootless { // whose it is, its state says
			state, _ := h.readState(c.Runtime.Root, c.ID)
			in.UID = state.UID
		}
		if c.State != hook.Stopped && c.Init.PID != 0 {
			t, err := h.look(c.Init.PID)
			switch {
			case err == nil:
				in.Alive = tracker.IdentityOf(t.Process()) == tracker.IdentityOf(c.Init) && h.follow(t, c.State != hook.Running) == nil
			default:
				in.Alive = !isGone(err) // the sweep will see
			}
			// The tracer went on without a worker: how this one ended may be waiting to be read.
			in.Alive = in.Alive || h.o.Session.Restarts > 0 && h.programs.Tracer != nil
		}
		h.sender(ctx)(in)
	}
}
