package controller

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// metrics are the controller's own figures. Safe for concurrent use.
type metrics struct {
	objects    prometheus.Gauge
	unmatched  *prometheus.GaugeVec
	unreported prometheus.Gauge
	deleted    *prometheus.CounterVec
	breaker    prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		objects: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "containerhook_objects", Help: "NodeContainers in the cluster.",
		}),
		unmatched: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "containerhook_unmatched_objects",
			Help: "NodeContainers for which no pod accounts, by the reason of their condition PodMatched.",
		}, []string{"reason"}),
		unreported: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "containerhook_unreported_containers",
			Help: "Containers that run by the status of their pods, and of which there is no NodeContainer.",
		}),
		deleted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "containerhook_gc_deleted_total",
			Help: "NodeContainers that were deleted: ttl, unmatched_ttl, pod_gone, too_many or node_gone.",
		}, []string{"reason"}),
		breaker: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "containerhook_breaker_open", Help: "1 while there are too many NodeContainers for agents to make more.",
		}),
	}
	for _, collector := range []prometheus.Collector{m.objects, m.unmatched, m.unreported, m.deleted, m.breaker} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, reason := range []string{deletedTTL, deletedUnmatchedTTL, deletedPodGone, deletedTooMany, deletedNodeGone} {
		m.deleted.WithLabelValues(reason) // there from the beginning: a rate needs the zero
	}
	m.counted(0, nil, false) // so are these, also of a controller that does not lead
	return m, nil
}

func (m *metrics) counted(objects int, unmatched map[string]int, breakerOpen bool) {
	m.objects.Set(float64(objects))
	for _, reason := range []string{v1alpha1.ReasonNotKubernetes, v1alpha1.ReasonPodGone, v1alpha1.ReasonNotInPodStatus} {
		m.unmatched.WithLabelValues(reason).Set(float64(unmatched[reason]))
	}
	m.breaker.Set(0)
	if breakerOpen {
		m.breaker.Set(1)
	}
}
