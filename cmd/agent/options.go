package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/desired"
)

// version is set by the linker.
var version = "devel"

// usageError is a mistake in the flags.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// options are the flags.
type options struct {
	standalone   bool
	probe        bool
	output       string
	kubeconfig   string
	stateDir     string
	qps          float32
	burst        int
	nodeName     string
	hostRoot     string
	runtimePaths []string
	usualPaths   bool
	stateRoots   []string
	deadline     time.Duration
	listEvery    time.Duration
	rootless     bool
	sandboxes    bool
	maxObjects   int
	annotations  []string
	metricsAddr  string
	healthAddr   string
	verbosity    int
	showVersion  bool

	printed bool // the version was asked for, and printed
}

// newFlags returns the flags, which set o.
func newFlags(o *options) *pflag.FlagSet {
	hostname, _ := os.Hostname() // without one, --node-name must be given
	f := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	f.SortFlags = false
	f.BoolVar(&o.standalone, "standalone", false, "print the node's containers as they come and go; needs no cluster")
	f.BoolVar(&o.probe, "probe", false, "print whether this node, and the API server, have what the agent needs; holds nothing")
	f.StringVarP(&o.output, "output", "o", "table", "standalone: table, wide, yaml or json; one entry per change. With --probe: table or json")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server; by default as a pod does")
	f.StringVar(&o.stateDir, "state-dir", "/run/containerhook", "directory of the checkpoint, for the next agent on this node")
	f.Float32Var(&o.qps, "kube-api-qps", 50, "most writes to the API per second")
	f.IntVar(&o.burst, "kube-api-burst", 100, "most writes to the API at once")
	f.StringVar(&o.nodeName, "node-name", envOr("NODE_NAME", hostname), "name of this node ($NODE_NAME, or the host's name)")
	f.StringVar(&o.hostRoot, "host-root", "/", "where the host's root is seen from here; its procfs is below it at proc")
	f.StringSliceVar(&o.runtimePaths, "runtime-path", filepath.SplitList(os.Getenv("RUNTIME_PATH")),
		"runtime binaries to hold besides the usual ones: paths on the host, or base names ($RUNTIME_PATH, separated by colons)")
	f.BoolVar(&o.usualPaths, "default-runtimes", true, "hold the runtimes that are found in the usual places")
	f.StringSliceVar(&o.stateRoots, "state-root", nil,
		"state directories of runtimes to list besides the usual ones (their --root), as globs on the host")
	f.DurationVar(&o.deadline, "deadline", 200*time.Millisecond, "longest time that any exec is held, under 2s")
	f.DurationVar(&o.listEvery, "list-interval", 10*time.Minute, "time between two listings of the runtimes' state")
	f.BoolVar(&o.rootless, "rootless", false, "report containers too whose runtime does not run as root")
	f.BoolVar(&o.sandboxes, "sandboxes", false, "report pod sandboxes too")
	f.IntVar(&o.maxObjects, "max-containers", desired.DefaultMaxObjects, "most containers of this node to report; what is left out is counted")
	f.StringSliceVar(&o.annotations, "annotation", nil, "annotation keys to copy into objects; none by default")
	f.StringVar(&o.metricsAddr, "metrics-bind-address", "127.0.0.1:8080", "where /metrics is served; 0 turns it off")
	f.StringVar(&o.healthAddr, "health-bind-address", "127.0.0.1:8081", "where /healthz and /readyz are served; 0 turns it off")
	f.IntVarP(&o.verbosity, "verbosity", "v", 0, "0 logs changes of state, 1 every held exec")
	f.BoolVar(&o.showVersion, "version", false, "print the version")
	f.Usage = func() {
		fmt.Fprintf(os.Stdout, "Reports every container on this node: from before its first instruction to its exit code.\n\n"+
			"Usage:\n  agent [flags]               writes NodeContainers to the cluster\n  agent --standalone [flags]  prints them\n  agent --probe [flags]       says whether it could\n\nFlags:\n%s\n"+
			"Exit codes: 0 stopped by a signal, 1 it failed, 2 wrong flags, 3 not root.\n", f.FlagUsages())
	}
	return f
}

// parseOptions reads args. The error is pflag.ErrHelp when help was asked for and printed.
func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := newFlags(o)

	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usageError{err}
	}
	if o.showVersion {
		fmt.Println("agent", version)
		o.printed = true
		return o, nil
	}
	if f.NArg() > 0 {
		return nil, usageError{fmt.Errorf("unexpected argument %q", f.Arg(0))}
	}
	return o, o.validate()
}

var outputs = []string{"table", "wide", "yaml", "json"}

func (o *options) validate() error {
	switch {
	case !o.standalone && !filepath.IsAbs(o.stateDir):
		return usageError{fmt.Errorf("--state-dir %q is not absolute", o.stateDir)}
	case o.qps <= 0 || o.burst < 1:
		return usageError{errors.New("--kube-api-qps and --kube-api-burst must be positive")}
	case !slices.Contains(outputs, o.output):
		return usageError{fmt.Errorf("--output %q is none of %s", o.output, strings.Join(outputs, ", "))}
	case o.nodeName == "":
		return usageError{errors.New("--node-name is empty, and the host has no name")}
	case !filepath.IsAbs(o.hostRoot):
		return usageError{fmt.Errorf("--host-root %q is not absolute", o.hostRoot)}
	case !isProcfs(filepath.Join(o.hostRoot, "proc")):
		return usageError{fmt.Errorf("--host-root %q: there is no procfs at proc below it", o.hostRoot)}
	case o.deadline <= 0 || o.deadline >= 2*time.Second:
		return usageError{fmt.Errorf("--deadline %v is not between 0 and 2s", o.deadline)}
	case o.listEvery < time.Second:
		return usageError{fmt.Errorf("--list-interval %v is under 1s", o.listEvery)}
	case o.maxObjects < 1:
		return usageError{fmt.Errorf("--max-containers %d is not positive", o.maxObjects)}
	case o.verbosity < 0:
		return usageError{fmt.Errorf("--verbosity %d is negative", o.verbosity)}
	}
	for _, pattern := range o.stateRoots {
		if _, err := path.Match(pattern, ""); err != nil || !path.IsAbs(pattern) {
			return usageError{fmt.Errorf("--state-root %q is not an absolute path or a glob of one", pattern)}
		}
	}
	return nil
}

func isProcfs(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
