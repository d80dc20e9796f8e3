package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/agent"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/printer"
)

// output is where objects go.
type output struct {
	publish func(*v1alpha1.NodeContainer)     // for the hook's goroutine only; never waits for a network
	known   []event.Container                 // what the agent before this one had reported
	run     []func(ctx context.Context) error // beside the hook
}

// toStdout prints objects.
func toStdout(o *options) (*output, error) {
	out, err := printer.New(os.Stdout, o.output)
	if err != nil {
		return nil, usageError{err}
	}
	failed := make(chan error, 1)
	over := false
	return &output{
		publish: func(c *v1alpha1.NodeContainer) {
			if over {
				return
			}
			if err := out.Print(c); err != nil {
				over = true
				failed <- fmt.Errorf("print: %w", err)
			}
		},
		run: []func(context.Context) error{func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case err := <-failed:
				return err
			}
		}},
	}, nil
}

const (
	// loadTimeout is how long an agent waits for its checkpoint. A disk that is busy takes less.
	loadTimeout = 5 * time.Second
	// reloadTimeout is the same for a worker after the first: execs are held, and events wait for it.
	reloadTimeout = 500 * time.Millisecond
)

// toAPI writes objects to the API, and to the checkpoint.
func toAPI(ctx context.Context, o *options, set *desired.Set, bootID string, restarts int, status func() event.Status, registry *prometheus.Registry) (*output, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	checkpoint := desired.NewCheckpoint(set, o.stateDir)
	patience := loadTimeout
	if restarts > 0 {
		patience = reloadTimeout
	}
	known, err := checkpoint.Load(patience)
	if err != nil {
		logr.FromContextOrDiscard(ctx).Error(err, "Ignoring unreadable checkpoint: how containers ended in between is not known")
	}
	withCheckpoint := func() event.Status {
		s := status()
		if path := checkpoint.Hanging(); path != "" {
			s.Hanging = append(s.Hanging, path)
		}
		return s
	}
	writer, err := agent.NewWriter(set, agent.WriterOptions{Config: config, NodeName: o.nodeName, Version: version,
		BootID: bootID, ObservedSince: checkpoint.ObservedSince(), Save: checkpoint.Save, Status: withCheckpoint, Metrics: registry})
	if err != nil {
		return nil, err
	}
	return &output{publish: func(c *v1alpha1.NodeContainer) { writer.Changed(c.Name) }, known: known,
		run: []func(context.Context) error{writer.Run, checkpoint.Run}}, nil
}

// restConfig is how the API is reached: by --kubeconfig, or as a pod is given it.
func restConfig(o *options) (config *rest.Config, err error) {
	if o.kubeconfig != "" {
		if config, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig); err != nil {
			return nil, usageError{fmt.Errorf("--kubeconfig: %w", err)}
		}
	} else if config, err = rest.InClusterConfig(); err != nil {
		return nil, usageError{fmt.Errorf("not in a pod, and no --kubeconfig (without a cluster: --standalone): %w", err)}
	}
	config.QPS, config.Burst = o.qps, o.burst
	config.UserAgent = "containerhook-agent/" + version
	return config, nil
}
