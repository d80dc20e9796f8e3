// Pins the Prometheus Operator whose CRDs the chart's monitors and rules are validated against. Nothing is compiled of it,
// and so go mod tidy would drop it: its YAML files are read in the module cache.
module github.com/containerhook/containerhook/test/chart/operator

go 1.26.7

require github.com/prometheus-operator/prometheus-operator v0.85.0
