package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/hook"
	"github.com/containerhook/containerhook/internal/object"
)

// maxConnections bounds what a stranger can open on our ports: the hook needs descriptors of its own.
const maxConnections = 16

// work is the worker: hook → desired set → printer or writer, with the metrics and probes beside them.
func work(ctx context.Context, o *options, restarts int, hookOff bool) error {
	// The host's, as the kubelet reads it: a node in a container may have its own.
	raw, err := os.ReadFile(filepath.Join(o.hostRoot, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return fmt.Errorf("read the boot's ID: %w", err)
	}
	bootID := strings.TrimSpace(string(raw))
	var h *containerhook.Hook
	set := desired.NewSet(desired.Options{Sandboxes: o.sandboxes, Options: object.Options{NodeName: o.nodeName, BootID: bootID,
		Annotations: o.annotations, HostNamespaces: func() hook.Namespaces { return h.HostNamespaces() }}})
	registry := newRegistry(restarts)
	var out *output
	if o.standalone {
		out, err = toStdout(o)
	} else {
		out, err = toAPI(ctx, o, set, bootID, func() hook.Status { return h.Status() }, registry)
	}
	if err != nil {
		return err
	}
	h, err = containerhook.New(containerhook.Options{
		HostRoot: o.hostRoot, RuntimePaths: o.runtimePaths, OnlyRuntimePaths: !o.usualPaths, StateRoots: o.stateRoots,
		Deadline: o.deadline, ListEvery: o.listEvery, Rootless: o.rootless, HookOff: hookOff, Known: out.known, Metrics: registry,
		Handler: func(e hook.Event) {
			if object, changed := set.Apply(e); changed {
				out.tell(object)
			}
		},
	})
	if err != nil {
		return usageError{err}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.Run(ctx) })
	for _, run := range out.run {
		group.Go(func() error { return run(ctx) })
	}
	probes := http.NewServeMux()
	probes.HandleFunc("/healthz", probe(h.Healthy))
	probes.HandleFunc("/readyz", probe(h.Ready))
	group.Go(func() error { return serve(ctx, o.healthAddr, probes) })
	scrapes := http.NewServeMux()
	scrapes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	group.Go(func() error { return serve(ctx, o.metricsAddr, scrapes) })
	return group.Wait()
}

func newRegistry(restarts int) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	restarted := prometheus.NewCounter(prometheus.CounterOpts{Name: "containerhook_worker_restarts_total",
		Help: "How often the worker was started again since the agent began."})
	restarted.Add(float64(restarts))
	registry.MustRegister(restarted, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// serve serves handler at address until ctx ends; not at all for "0".
func serve(ctx context.Context, address string, handler http.Handler) error {
	if address == "0" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		// Two agents on one machine, or a port in use: no reason to leave the node unseen.
		logr.FromContextOrDiscard(ctx).Error(err, "Not serving metrics or probes there", "address", address)
		return nil
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(netutil.LimitListener(listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", address, err)
	}
	return nil
}
