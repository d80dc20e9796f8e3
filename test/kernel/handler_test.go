package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/test/machine"
)

// The environment of this test binary when it runs a hook with a handler of the test's own, in a pod's namespaces.
const (
	handlerEnv  = "CONTAINERHOOK_TEST_HANDLER"
	runtimesEnv = "CONTAINERHOOK_TEST_RUNTIMES"
	toldDirEnv  = "CONTAINERHOOK_TEST_TOLD"
)

// handlers are what a hook can be told to do with an event.
var handlers = map[string]func(dir string) func(event.Event){
	// touch makes a file named for a container when its facts are told, before its start or while that is held; late, so
	// that a process that was not held would not find it. And one with the exit code when it stops.
	"touch": func(dir string) func(event.Event) {
		return func(e event.Event) {
			switch e.State {
			case event.Created:
				if e.Init.PID != 0 && e.Init.Namespaces.Mount != 0 {
					<-time.After(50 * time.Millisecond)
					touch(dir, e.ID)
				}
			case event.Stopped:
				if e.ExitCode != nil {
					touch(dir, fmt.Sprintf("%s.exit.%d", e.ID, *e.ExitCode))
				}
			}
		}
	},
	// sleep is a handler that hangs, for longer than whoever it could hold needs.
	"sleep": func(dir string) func(event.Event) {
		hang := sync.OnceFunc(func() {
			touch(dir, "asleep")
			<-time.After(3 * time.Second)
		})
		return func(event.Event) { hang() }
	},
}

func touch(dir, name string) {
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// runHandler is the main of an agent with one of handlers: of its gate, and of its worker.
func runHandler(kind string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run := runHandlerGate
	if gate.IsWorker() {
		run = runHandlerWorker
	} else if code, is, err := gate.First(); is && err == nil {
		return code
	}
	if err := run(ctx, kind); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runHandlerGate(ctx context.Context, kind string) error {
	options := gate.Options{HostProc: filepath.Join(hostDir, "proc")}
	if kind == "touch" {
		options.Deadline = time.Second // that a busy machine is late is another test's matter
	}
	g, err := gate.New(options)
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

func runHandlerWorker(ctx context.Context, kind string) error {
	session, err := gate.Join(filepath.Join(hostDir, "proc"))
	if err != nil {
		return err
	}
	h, err := containerhook.New(containerhook.Options{HostRoot: hostDir, Session: session, OnlyRuntimePaths: true,
		Metrics: prometheus.NewRegistry(), RuntimePaths: strings.Split(os.Getenv(runtimesEnv), ",")})
	if err != nil {
		return err
	}
	dir := filepath.Join(hostDir, os.Getenv(toldDirEnv))
	go func() {
		if poll(10*time.Second, h.Ready) == nil {
			touch(dir, "ready")
		}
	}()
	return errors.Join(h.Run(ctx, nil, handlers[kind](dir)), session.Close())
}

// startHandler runs a hook with a handler in a pod's namespaces; the handler makes its files in dir.
func (n *node) startHandler(kind, dir string) {
	n.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := machine.InPod(self)
	cmd.Env = append(cmd.Env, handlerEnv+"="+kind, toldDirEnv+"="+dir,
		runtimesEnv+"="+strings.Join([]string{n.runc, n.crun, n.conmon, n.marked}, ","))
	cmd.Stderr = os.Stderr
	if err := machine.Start(cmd); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		timer := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("the handler's process ended with %v", err)
		}
		timer.Stop()
	})
	if err := poll(20*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err
	}); err != nil {
		n.t.Fatalf("the hook was never ready: %v", err)
	}
}
