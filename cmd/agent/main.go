// Command agent reports every container on its node. See --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"

	"github.com/containerhook/containerhook/internal/containerhook/gate"
)

// Exit codes; docs/reference.md has them for users.
const (
	exitFailed       = 1 // and what a crash gives: the worker is started again
	exitUsage        = gate.ExitUsage
	exitNotPermitted = gate.ExitNotPermitted
)

// errNotPermitted is the one thing that no other attempt mends.
var errNotPermitted = errors.New("the agent must run as root: it reads the runtimes' state and holds their execs")

func main() {
	err := run()
	switch {
	case err == nil:
		return
	case errors.Is(err, pflag.ErrHelp):
		return
	}
	if exit := (*gate.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.Code) // the worker has said why
	}
	fmt.Fprintln(os.Stderr, "agent:", err)
	switch {
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "See agent --help.")
		os.Exit(exitUsage)
	case errors.Is(err, errNotPermitted):
		os.Exit(exitNotPermitted)
	}
	os.Exit(exitFailed)
}

func run() error {
	o, err := parseOptions(os.Args[1:])
	if err != nil || o.printed {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.probe {
		return probeNode(ctx, o)
	}
	if os.Geteuid() != 0 {
		return errNotPermitted
	}
	ctx = logr.NewContext(ctx, newLogger(o.verbosity))
	if gate.IsWorker() {
		return work(ctx, o)
	}
	if code, is, err := gate.First(); err != nil || is {
		if err == nil && code != 0 {
			err = &gate.ExitError{Code: code}
		}
		return err
	}
	g, err := gate.New(gate.Options{HostProc: filepath.Join(o.hostRoot, "proc"), Deadline: o.deadline, Rootless: o.rootless,
		Files: []*os.File{listen(ctx, o.healthAddr), listen(ctx, o.metricsAddr)}})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// newLogger writes one line an entry to standard error: standard output is for containers.
func newLogger(verbosity int) logr.Logger {
	level := slog.Level(-verbosity) // logr's V(n) is slog's level -n
	return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
