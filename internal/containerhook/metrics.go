package containerhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

// metrics are the figures of the hook. Safe for concurrent use.
type metrics struct {
	lookups  *prometheus.CounterVec
	gaps     *prometheus.CounterVec
	runtimes prometheus.Gauge
	hanging  prometheus.GaugeFunc
}

func newMetrics(r prometheus.Registerer, reads *hostfs.Reads) *metrics {
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "containerhook_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		lookups: counters("lookup_failures_total",
			"Held tasks of which something could not be read, by what that was.", "what"),
		gaps: counters("gaps_total",
			"Times in which the hook may have missed something, each of which has the node listed again, by reason.", "reason"),
		runtimes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "containerhook_marked_runtimes",
			Help: "Runtime binaries (inodes) that are marked."}),
		hanging: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "containerhook_hanging_paths",
			Help: "Paths whose file system has not answered for a second."}, func() float64 { return float64(len(reads.Hanging())) }),
	}
	r.MustRegister(m.lookups, m.gaps, m.runtimes, m.hanging)
	return m
}

// gateCollector exports what the gate counts, in its own memory.
type gateCollector struct{ stats *gate.Stats }

var (
	execEvents = prometheus.NewDesc("containerhook_exec_events_total",
		"Permission events of marked binaries that were answered, by what they turned out to be.", []string{"result"}, nil)
	holdSeconds = prometheus.NewDesc("containerhook_hold_seconds",
		"Time from reading a permission event to its answer, heartbeats left out.", nil, nil)
	heartbeatSeconds = prometheus.NewDesc("containerhook_heartbeat_seconds",
		"Time from when one of the gate's own permission events was due to its answer: with the wait in the kernel's queue, and for the gate.", nil, nil)
	deadlineExceeded = prometheus.NewDesc("containerhook_deadline_exceeded_total",
		"Permission events that were allowed because their deadline was over.", nil, nil)
	workerRestarts = prometheus.NewDesc("containerhook_worker_restarts_total",
		"How often the worker was started again since the agent began.", nil, nil)
	missedContainers = prometheus.NewDesc("containerhook_missed_containers_total",
		"Containers that the hook should have seen and a listing found.", nil, nil)
	queueOverflows = prometheus.NewDesc("containerhook_queue_overflows_total",
		"Times that the kernel had no room for a permission event.", nil, nil)
	answerErrors = prometheus.NewDesc("containerhook_answer_failures_total",
		"Answers that came when the held task was gone.", nil, nil)
)

func (c gateCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{execEvents, holdSeconds, heartbeatSeconds, deadlineExceeded, workerRestarts, missedContainers, queueOverflows, answerErrors} {
		descs <- d
	}
}

func (c gateCollector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for result := range gate.Results {
		counter(execEvents, c.stats.Answered[result].Load(), result.String())
	}
	counter(deadlineExceeded, c.stats.Answered[gate.Timeout].Load())
	counter(workerRestarts, c.stats.Restarts.Load())
	counter(missedContainers, c.stats.Missed.Load())
	counter(queueOverflows, c.stats.Overflows.Load())
	counter(answerErrors, c.stats.AnswerErrors.Load())
	out <- histogram(holdSeconds, &c.stats.Hold)
	out <- histogram(heartbeatSeconds, &c.stats.Heartbeat)
}

func histogram(d *prometheus.Desc, h *gate.Histogram) prometheus.Metric {
	buckets, count := map[float64]uint64{}, uint64(0)
	for i := range h.Buckets {
		count += h.Buckets[i].Load()
		if i < len(gate.HoldBuckets) {
			buckets[gate.HoldBuckets[i].Seconds()] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, time.Duration(h.Sum.Load()).Seconds(), buckets)
}

func (m *metrics) unread(what string) { m.lookups.WithLabelValues(what).Inc() }
func (m *metrics) gap(reason string)  { m.gaps.WithLabelValues(reason).Inc() }
