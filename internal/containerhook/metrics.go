package containerhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// metrics are the figures of the hook. Safe for concurrent use.
type metrics struct {
	events   *prometheus.CounterVec
	hold     prometheus.Histogram
	late     prometheus.Counter
	lookups  *prometheus.CounterVec
	missed   prometheus.Counter
	gaps     *prometheus.CounterVec
	runtimes prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "containerhook_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		events: counters("exec_events_total",
			"Permission events of marked binaries that were answered, by what they turned out to be.", "result"),
		hold: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "containerhook_hold_seconds",
			Help:    "Time from reading a permission event to its answer, heartbeats left out.",
			Buckets: []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 100e-3, 200e-3, 500e-3}}),
		late: prometheus.NewCounter(prometheus.CounterOpts{Name: "containerhook_late_answers_total",
			Help: "Permission events that were allowed because their deadline was over."}),
		lookups: counters("lookup_failures_total",
			"Held tasks of which something could not be read, by what that was.", "what"),
		missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "containerhook_missed_containers_total",
			Help: "Containers that the hook should have seen and a listing found."}),
		gaps: counters("gaps_total",
			"Times in which the hook may have missed something, each of which has the node listed again, by reason.", "reason"),
		runtimes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "containerhook_marked_runtimes",
			Help: "Runtime binaries (inodes) that are marked."}),
	}
	r.MustRegister(m.events, m.hold, m.late, m.lookups, m.missed, m.gaps, m.runtimes)
	return m
}

// answered counts an answer. An answer fails only where nobody waits any more: the task was killed, or the gate closed.
func (m *metrics) answered(result string, after time.Duration, err error) {
	if err != nil {
		m.lookups.WithLabelValues("answer").Inc()
	}
	if result == "heartbeat" {
		return
	}
	m.events.WithLabelValues(result).Inc()
	m.hold.Observe(after.Seconds())
	if result == resultLate {
		m.late.Inc()
	}
}

func (m *metrics) unread(what string) { m.lookups.WithLabelValues(what).Inc() }
func (m *metrics) gap(reason string)  { m.gaps.WithLabelValues(reason).Inc() }

// count reads a counter.
func count(c prometheus.Counter) int64 {
	var m dto.Metric
	_ = c.Write(&m) // fails only for a metric that is none
	return int64(m.GetCounter().GetValue())
}
