package containerhook

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/hook"
)

// TestAContainerIsResumedAsItsOwners: what was told does not say which user's it is, but the runtime's state does.
func TestAContainerIsResumedAsItsOwners(t *testing.T) {
	hosttest.NeedRoot(t)
	for name, uid := range map[string]uint32{"root's": 0, "a user's": 1000} {
		h := listedHook(t, stateOfSelf(t, 0))
		if err := os.Chown(filepath.Join(h.o.HostRoot, "run/runc/a"), int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
		h.o.Session = &gate.Session{}
		known := []hook.Container{{ID: "a", Runtime: hook.Runtime{Root: "/run/runc"}, Rootless: uid != 0, State: hook.Stopped}}
		go h.resume(context.Background(), known)
		if in, ok := (<-h.inputs).(tracker.Resumed); !ok || in.UID != uid || in.Alive {
			t.Errorf("%s: %+v", name, in)
		}
	}
}
