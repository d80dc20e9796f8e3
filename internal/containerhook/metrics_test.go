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
