// Command controller matches NodeContainers with pods, and collects the garbage. See --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/controller"
)

// How fast the controller may write: containers come and go with the pods of a whole cluster.
const (
	apiQPS   = 100
	apiBurst = 200
)

// leaseName is the lease that the leader holds.
const leaseName = "controller.containerhook.io"

// exitUsage is the exit code for wrong flags; 1 is everything else.
const exitUsage = 2

func main() {
	err := run()
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return
	}
	fmt.Fprintln(os.Stderr, "controller:", err)
	if errors.As(err, new(usageError)) {
		fmt.Fprintln(os.Stderr, "See controller --help.")
		os.Exit(exitUsage)
	}
	os.Exit(1)
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "check" {
		return check(ctx, os.Args[2:])
	}
	o, err := parseOptions(os.Args[1:])
	if err != nil || o.printed {
		return err
	}
	log := newLogger(o.verbosity)
	ctrl.SetLogger(log)
	mgr, err := newManager(o, log)
	if err != nil {
		return err
	}
	if err := controller.Setup(ctx, mgr, metrics.Registry, o.policies); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// newManager returns a manager with what every controller needs: the API, caches, a lease, probes and metrics.
func newManager(o *options, log logr.Logger) (ctrl.Manager, error) {
	config, err := restConfig(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = apiQPS, apiBurst
	config.UserAgent = "containerhook-controller/" + version
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Logger: log,
		Cache:  cache.Options(),
		Metrics: metricsserver.Options{
			BindAddress: o.metricsAddr, CertDir: o.metricsCertDir,
			SecureServing: true, FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress:        o.healthAddr,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.leaseNamespace,
		LeaderElectionReleaseOnCancel: true, // nothing runs after mgr.Start
	})
	if err != nil {
		return nil, fmt.Errorf("make manager: %w", err)
	}
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping))
}

// restConfig reads a kubeconfig, or without one what a pod is given.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("not in a pod, and no --kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %q: %w", kubeconfig, err)
	}
	return config, nil
}

// newLogger writes one line an entry to standard error.
func newLogger(verbosity int) logr.Logger {
	level := slog.Level(-verbosity) // logr's V(n) is slog's level -n
	return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
