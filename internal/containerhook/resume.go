package containerhook

import (
	"context"
	"time"

	"github.com/containerhook/containerhook/internal/hook"
)

// resume takes up what the agent before this one had known.
func (h *Hook) resume(ctx context.Context, known []hook.Container) {
	for _, c := range known {
		in := resumed{at: time.Now(), container: c}
		if c.Rootless { // whose it is, its state says
			state, _ := h.readState(c.Runtime.Root, c.ID)
			in.uid = state.uid
		}
		if c.State != hook.Stopped && c.Init.PID != 0 {
			t, err := h.look(c.Init.PID)
			switch {
			case err == nil:
				in.alive = identityOf(t.Process()) == identityOf(c.Init) && h.follow(t, c.State != hook.Running) == nil
			default:
				in.alive = !isGone(err) // the sweep will see
			}
			// The tracer went on without a worker: how this one ended may be waiting to be read.
			in.alive = in.alive || h.o.Session.Restarts > 0 && h.programs.Tracer != nil
		}
		h.sender(ctx)(in)
	}
}

// resumed: a container that was reported by the agent before this one.
type resumed struct {
	at        time.Time
	container hook.Container // as it was then
	uid       uint32         // whose it is
	alive     bool           // its init is
}

func (in resumed) apply(t *tracker) {
	c := &container{Container: in.container, uid: in.uid, emitted: true}
	t.byID[c.instance()] = c
	switch {
	case c.State == hook.Stopped: // kept until its runtime forgets it, so that a listing does not find it once more
	case in.alive:
		t.setInit(c, c.Init, in.at)
	default:
		t.finish(c, in.at, nil, hook.ExitUnseen)
	}
}
