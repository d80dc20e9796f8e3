package containerhook

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
)

func TestMetricsAreNamedAsPrometheusAdvises(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newMetrics(registry, hostfs.NewReads())
	registry.MustRegister(gateCollector{new(gate.Stats)})
	m.unread("argv") // one of each, so that each is there
	m.gap("overflow")
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 12 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "containerhook_") || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
	}
}

func TestWhatTheTrackerCountsIsTakenOverOnce(t *testing.T) {
	h := &Hook{o: Options{Session: &gate.Session{Stats: new(gate.Stats)}}, queue: newQueue(newMetrics(prometheus.NewRegistry(), hostfs.NewReads()))}
	tr := tracker.New()
	tr.Missed, tr.Ended = 2, maxEnded-1
	h.count(tr)
	if len(h.queue.relist) > 0 {
		t.Errorf("a listing is wanted after %d ends", maxEnded-1)
	}
	tr.Ended++
	h.count(tr)
	if len(h.queue.relist) != 1 || tr.Ended != 0 {
		t.Errorf("no listing is wanted after %d ends; %d are left", maxEnded, tr.Ended)
	}
	if missed := h.o.Session.Stats.Missed.Load(); missed != 2 {
		t.Errorf("counted %v", missed)
	}
}
