package containerhook

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/event"
)

// noon is when a test begins.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := Options{HostRoot: "/", Session: &gate.Session{Programs: &task.Programs{}}}
	for name, spoil := range map[string]func(*Options){
		"nothing":             func(*Options) {},
		"a relative root":     func(o *Options) { o.HostRoot = "host" },
		"no session":          func(o *Options) { o.Session = nil },
		"no metrics":          func(o *Options) { o.Metrics = nil },
		"a negative interval": func(o *Options) { o.ListEvery = -1 },
	} {
		o := good
		o.Metrics = prometheus.NewRegistry()
		spoil(&o)
		if _, err := New(o); (err == nil) != (name == "nothing") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadyOnlyWhenListed(t *testing.T) {
	h := &Hook{status: new(status)}
	if h.Ready() == nil {
		t.Error("ready at once")
	}
	h.status.setListed(noon, 0)
	if err := h.Ready(); err != nil {
		t.Error(err)
	}
}

func TestHealthFollowsTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats := new(gate.Stats)
		h := &Hook{o: Options{Session: &gate.Session{Stats: stats}}, status: new(status)}
		if err := h.Healthy(); err != nil {
			t.Errorf("a node that is not hooked: %v", err)
		}
		h.status.setHooked(nil)
		if h.Healthy() == nil {
			t.Error("healthy before the gate has answered")
		}
		stats.LastBeat.Store(time.Now().UnixNano())
		<-time.After(gate.HealthTimeout)
		if err := h.Healthy(); err != nil {
			t.Error(err)
		}
		<-time.After(time.Nanosecond)
		if h.Healthy() == nil {
			t.Errorf("healthy after %v of silence", gate.HealthTimeout)
		}
		why := errors.New("no BTF")
		h.status.setHooked(why)
		if err := h.Healthy(); err != nil || !errors.Is(h.Degraded(), why) {
			t.Errorf("a degraded node: %v, %v", err, h.Degraded())
		}
	})
}

// TestAStartGoesOnOnlyAfterItsContainerIsHandled: the promise is that all is known before the container's first instruction.
func TestAStartGoesOnOnlyAfterItsContainerIsHandled(t *testing.T) {
	tr, done := tracker.New(), make(chan bool, 1)
	of, init := tracker.Instance{Root: "/run/runc", ID: "a"}, event.Process{PID: 20, StartTicks: 7}
	tr.Step(tracker.Inventory{At: noon, First: true, Entries: []tracker.Entry{{Instance: of, Init: init, Alive: true, Waiting: true, At: noon}}})
	init.CgroupID = 9
	in := tracker.Starting{At: noon, Of: of, Init: init, Done: done}
	handled := 0
	advance(tr, in, func(event.Event) {
		handled++
		if len(done) > 0 {
			t.Error("it goes on before its container is handled")
		}
	})
	if handled != 1 || len(done) != 1 || <-done {
		t.Errorf("handled %d times, released: %v", handled, len(done) == 1)
	}

	// One that nobody knows of is the caller's to look for, and is not asked for twice.
	in.Of.ID = "b"
	advance(tr, in, func(event.Event) { t.Error("something is handled") })
	if unknown := <-done; !unknown {
		t.Error("an unknown container is taken for a known one")
	}
	in.Again = true
	advance(tr, in, func(event.Event) { t.Error("something is handled") })
	if unknown := <-done; unknown {
		t.Error("it is asked for once more")
	}
}
