package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/containerhook/containerhook/internal/controller"
)

// version is set by the linker.
var version = "devel"

// usageError is a mistake in the flags.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// options are the flags.
type options struct {
	policies       controller.Options
	kubeconfig     string
	metricsAddr    string
	metricsCertDir string
	healthAddr     string
	leaderElect    bool
	leaseNamespace string
	verbosity      int
	showVersion    bool

	printed bool // the version was asked for, and printed
}

// newFlags returns the flags, which set o. What o has of the policies is their default.
func newFlags(o *options) *pflag.FlagSet {
	p := &o.policies
	f := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	f.SortFlags = false
	f.DurationVar(&p.StoppedTTL, "stopped-ttl", p.StoppedTTL, "how long a stopped container is kept that a pod accounts for")
	f.DurationVar(&p.UnmatchedStoppedTTL, "unmatched-stopped-ttl", p.UnmatchedStoppedTTL,
		"how long a stopped container is kept that no pod accounts for")
	f.IntVar(&p.KeepStoppedPerName, "keep-stopped-per-name", p.KeepStoppedPerName,
		"how many stopped containers of one node and name are kept")
	f.IntVar(&p.MaxObjects, "max-objects", p.MaxObjects,
		"at how many NodeContainers in the cluster agents stop to make new ones, until a tenth of them is gone")
	f.DurationVar(&p.NodeGoneAfter, "node-gone-after", p.NodeGoneAfter,
		"how long a Node must be absent, and its agent silent, until all of its containers are deleted")
	f.DurationVar(&p.AgentLostAfter, "agent-lost-after", p.AgentLostAfter,
		"how long an agent must be silent until its containers' condition Observed is Unknown")
	f.IntVar(&p.MassOutagePercent, "mass-outage-percent", p.MassOutagePercent,
		"when more of the agents than this are silent their containers are left as they are")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "the cluster to talk to; empty for the one that this runs in")
	f.StringVar(&o.metricsAddr, "metrics-bind-address", ":8443",
		"where /metrics is served, over TLS, to whom RBAC allows to get it; 0 turns it off")
	f.StringVar(&o.metricsCertDir, "metrics-cert-dir", "",
		"directory of tls.crt and tls.key for /metrics; empty for a certificate of the controller's own")
	f.StringVar(&o.healthAddr, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 turns it off")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "work only while holding the lease "+leaseName)
	f.StringVar(&o.leaseNamespace, "leader-elect-namespace", "", "namespace of the lease; empty for the controller's own")
	f.IntVarP(&o.verbosity, "verbosity", "v", 0, "0 logs changes of state, 1 each decision")
	f.BoolVar(&o.showVersion, "version", false, "print the version")
	f.Usage = func() {
		fmt.Fprintf(os.Stdout, "Matches NodeContainers with pods, and deletes those of containers that are gone.\n\n"+
			"Usage:\n  controller [flags]\n  controller check --pod-uid UID  waits until that pod's containers are known, as helm test does\n\n"+
			"Flags:\n%s\nExit codes: 0 stopped by a signal, 1 it failed, 2 wrong flags.\n", f.FlagUsages())
	}
	return f
}

// parseOptions reads args. The error is pflag.ErrHelp when help was asked for and printed.
func parseOptions(args []string) (*options, error) {
	o := &options{policies: controller.DefaultOptions()}
	f := newFlags(o)

	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usageError{err}
	}
	if o.showVersion {
		fmt.Println("controller", version)
		o.printed = true
		return o, nil
	}
	if f.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q", f.Arg(0))}
	}
	if o.verbosity < 0 {
		return nil, usageError{fmt.Errorf("--verbosity %d is negative", o.verbosity)}
	}
	if err := o.policies.Validate(); err != nil {
		return nil, usageError{err}
	}
	return o, nil
}
