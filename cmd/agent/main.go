// Command agent tells of every container on its node. See --help.
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

	"github.com/containerhook/containerhook/internal/supervisor"
)

// Exit codes; docs/troubleshooting.md tells them to users.
const (
	exitFailed       = 1 // and what a crash gives: the worker is started again
	exitUsage        = 2
	exitNotPermitted = 3
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
	if os.Geteuid() != 0 {
		return errNotPermitted
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx = logr.NewContext(ctx, newLogger(o.verbosity))
	restarts, hookOff, isWorker := supervisor.Worker()
	if !isWorker {
		return supervisor.Run(ctx)
	}
	return work(ctx, o, restarts, hookOff)
}

// newLogger writes one line an entry to standard error: standard output is for containers.
func newLogger(verbosity int) logr.Logger {
	level := slog.Level(-verbosity) // logr's V(n) is slog's level -n
	return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}
