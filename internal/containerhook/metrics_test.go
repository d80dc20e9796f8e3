package containerhook

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsAreNamedAsPrometheusAdvises(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newMetrics(registry)
	m.answered("late", time.Millisecond, nil) // one of each, so that each is there
	m.unread("argv")
	m.gap("overflow")
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 7 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "containerhook_") || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
	}
}

func TestHeartbeatsAreNoEvents(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	m.answered("heartbeat", time.Millisecond, nil)
	if n := testutil.CollectAndCount(m.events); n != 0 {
		t.Errorf("%d results", n)
	}
	m.answered("run", time.Millisecond, nil)
	if n := testutil.ToFloat64(m.events.WithLabelValues("run")); n != 1 {
		t.Errorf("run is counted %v times", n)
	}
}

func TestWhatTheTrackerCountsIsTakenOverOnce(t *testing.T) {
	h := &Hook{metrics: newMetrics(prometheus.NewRegistry()), relist: make(chan string, 1)}
	tracker := newTracker(nil)
	tracker.missed, tracker.unparsed, tracker.ended = 2, 3, maxEnded-1
	h.count(tracker)
	if len(h.relist) > 0 {
		t.Errorf("a listing is wanted after %d ends", maxEnded-1)
	}
	tracker.ended++
	h.count(tracker)
	if len(h.relist) != 1 || tracker.ended != 0 {
		t.Errorf("no listing is wanted after %d ends; %d are left", maxEnded, tracker.ended)
	}
	if missed, unparsed := testutil.ToFloat64(h.metrics.missed), testutil.ToFloat64(h.metrics.lookups.WithLabelValues("config")); missed != 2 || unparsed != 3 {
		t.Errorf("counted %v and %v", missed, unparsed)
	}
}
