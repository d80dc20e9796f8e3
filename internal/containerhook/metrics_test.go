package containerhook

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
)

func TestMetricsAreNamedAsPrometheusAdvises(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newMetrics(registry, newReads())
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
	h := &Hook{o: Options{Session: &gate.Session{Stats: new(gate.Stats)}}, metrics: newMetrics(prometheus.NewRegistry(), newReads()), relist: make(chan string, 1)}
	tracker := newTracker()
	tracker.missed, tracker.ended = 2, maxEnded-1
	h.count(tracker)
	if len(h.relist) > 0 {
		t.Errorf("a listing is wanted after %d ends", maxEnded-1)
	}
	tracker.ended++
	h.count(tracker)
	if len(h.relist) != 1 || tracker.ended != 0 {
		t.Errorf("no listing is wanted after %d ends; %d are left", maxEnded, tracker.ended)
	}
	if missed := h.o.Session.Stats.Missed.Load(); missed != 2 {
		t.Errorf("counted %v", missed)
	}
}
