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
	"golang.org/x/sync/errgroup"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/object"
)

// work is the worker: hook → desired set → printer or writer, with the metrics and probes beside them.
func work(ctx context.Context, o *options) (err error) {
	session, err := gate.Join(filepath.Join(o.hostRoot, "proc"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()

	// The host's, as the kubelet reads it: a node in a container may have its own.
	raw, err := os.ReadFile(filepath.Join(o.hostRoot, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return fmt.Errorf("read the boot's ID: %w", err)
	}
	bootID := strings.TrimSpace(string(raw))
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h, err := containerhook.New(containerhook.Options{
		HostRoot: o.hostRoot, Session: session, RuntimePaths: o.runtimePaths, OnlyRuntimePaths: !o.usualPaths,
		StateRoots: o.stateRoots, ListEvery: o.listEvery, Rootless: o.rootless, Metrics: registry,
	})
	if err != nil {
		return usageError{err}
	}
	set := desired.NewSet(desired.Options{Sandboxes: o.sandboxes, MaxObjects: o.maxObjects, Options: object.Options{NodeName: o.nodeName, BootID: bootID,
		Annotations: o.annotations, HostNamespaces: h.HostNamespaces}})
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "containerhook_left_out_containers",
		Help: "Living containers that are not reported, because there are more than --max-containers."},
		func() float64 { return float64(set.Counts().LeftOut) }))
	var out *output
	if o.standalone {
		out, err = toStdout(o)
	} else {
		out, err = toAPI(ctx, o, set, bootID, session.Restarts, h.Status, registry)
	}
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return h.Run(ctx, out.known, func(e event.Event) {
			if object, changed := set.Apply(e); changed {
				out.publish(object)
			}
		})
	})
	for _, run := range out.run {
		group.Go(func() error { return run(ctx) })
	}
	probes := http.NewServeMux()
	probes.HandleFunc("/healthz", probe(h.Healthy))
	probes.HandleFunc("/readyz", probe(h.Ready))
	group.Go(func() error { return serve(ctx, session.Files[0], probes) })
	scrapes := http.NewServeMux()
	scrapes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	group.Go(func() error { return serve(ctx, session.Files[1], scrapes) })
	return group.Wait()
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

// listen opens a port, for each worker; nil for "0". A port of the gate's is there while one worker follows another.
func listen(ctx context.Context, address string) *os.File {
	if address == "0" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err == nil {
		defer listener.Close()
		var file *os.File
		if file, err = listener.(*net.TCPListener).File(); err == nil {
			return file
		}
	}
	// Two agents on one machine, or a port in use: no reason to leave the node unseen.
	logr.FromContextOrDiscard(ctx).Error(err, "Not serving metrics or probes there", "address", address)
	return nil
}

// serve serves handler at a port that listen has opened until ctx ends; not at all for nil.
func serve(ctx context.Context, port *os.File, handler http.Handler) error {
	if port == nil {
		return nil
	}
	listener, err := net.FileListener(port)
	port.Close()
	if err != nil {
		return fmt.Errorf("serve metrics or probes: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(newCrowdedListener(listener)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	return nil
}
