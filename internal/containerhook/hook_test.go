package containerhook

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/hook"
)

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
	h := &Hook{}
	if h.Ready() == nil {
		t.Error("ready at once")
	}
	h.listed = epoch
	if err := h.Ready(); err != nil {
		t.Error(err)
	}
}

func TestHealthFollowsTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats := new(gate.Stats)
		h := &Hook{o: Options{Session: &gate.Session{Stats: stats}}}
		if err := h.Healthy(); err != nil {
			t.Errorf("a node that is not hooked: %v", err)
		}
		h.setHooked(nil)
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
		h.setHooked(why)
		if err := h.Healthy(); err != nil || !errors.Is(h.Degraded(), why) {
			t.Errorf("a degraded node: %v, %v", err, h.Degraded())
		}
	})
}

func TestNobodyWaitsForAFileSystemThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, answers := newReads(), make(chan int)
		closed := 0
		hang := func() (int, error) { return <-answers, nil }
		began := time.Now()
		if _, err := within(r, "/fuse/a", hang, func(int) { closed++ }); !errors.Is(err, errHangs) {
			t.Errorf("it hangs: %v", err)
		}
		if took := time.Since(began); took < hangsAfter || took > 2*hangsAfter {
			t.Errorf("waited %v", took)
		}
		if got := r.hanging(); !slices.Equal(got, []string{"/fuse/a"}) {
			t.Errorf("what hangs: %v", got)
		}

		// It is not tried again while it hangs; others are.
		if _, err := within(r, "/fuse/a", func() (int, error) { t.Error("tried again"); return 0, nil }, nil); !errors.Is(err, errHangs) {
			t.Errorf("again: %v", err)
		}
		if n, err := within(r, "/b", func() (int, error) { return 7, nil }, nil); n != 7 || err != nil {
			t.Errorf("another: %d, %v", n, err)
		}

		answers <- 1
		synctest.Wait()
		if got := r.hanging(); closed != 1 || len(got) != 0 {
			t.Errorf("after its answer %v hang, and %d results were closed", got, closed)
		}
		if n, err := within(r, "/fuse/a", func() (int, error) { return 8, nil }, nil); n != 8 || err != nil {
			t.Errorf("after its answer: %d, %v", n, err)
		}
	})
}

func TestSoManyHangAndNoMoreThreadsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReads()
		for range maxHanging {
			r.begin("/fuse")
		}
		<-time.After(hangsAfter + 1)
		if _, err := within(r, "/b", func() (int, error) { return 0, nil }, nil); !errors.Is(err, errManyHanging) {
			t.Errorf("one more: %v", err)
		}
	})
}

// TestAStartGoesOnOnlyAfterItsContainerIsHandled: the promise is that all is known before the container's first instruction.
func TestAStartGoesOnOnlyAfterItsContainerIsHandled(t *testing.T) {
	tracker, done := tracking(t, hook.Created), make(chan bool, 1)
	in := starting{at: epoch, of: instance{root: "/run/runc", id: "a"}, init: hook.Process{PID: 20, StartTicks: 7, CgroupID: 9}, done: done}
	handled := 0
	advance(tracker, in, func(hook.Event) {
		handled++
		if len(done) > 0 {
			t.Error("it goes on before its container is handled")
		}
	})
	if handled != 1 || len(done) != 1 || <-done {
		t.Errorf("handled %d times, released: %v", handled, len(done) == 1)
	}

	// One that nobody knows of is the caller's to look for, and is not asked for twice.
	in.of.id = "b"
	advance(tracker, in, func(hook.Event) { t.Error("something is handled") })
	if unknown := <-done; !unknown {
		t.Error("an unknown container is taken for a known one")
	}
	in.again = true
	advance(tracker, in, func(hook.Event) { t.Error("something is handled") })
	if unknown := <-done; unknown {
		t.Error("it is asked for once more")
	}
}
