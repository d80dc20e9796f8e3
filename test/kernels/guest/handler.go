package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/internal/containerhook/gate"
	"github.com/containerhook/containerhook/internal/event"
)

// handled is where the handler makes its files. Containers see it, in their root.
const handled = "/handled"

// runHandler runs an agent, in a pod's namespaces, with a handler that makes files in dir: one named for each container
// when its facts are known, and one that has its exit code in its name when it stops.
func runHandler(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) //nolint:forbidigo // this is a main
	defer stop()
	hostProc := filepath.Join(hostDir, "proc")
	if gate.IsWorker() {
		return handle(ctx, hostProc, dir)
	}
	if code, is, err := gate.First(); err != nil || is {
		if err == nil && code != 0 {
			err = &gate.ExitError{Code: code}
		}
		return err
	}
	g, err := gate.New(gate.Options{HostProc: hostProc, Deadline: deadline})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// handle is the worker.
func handle(ctx context.Context, hostProc, dir string) error {
	session, err := gate.Join(hostProc)
	if err != nil {
		return err
	}
	h, err := containerhook.New(containerhook.Options{HostRoot: hostDir, Session: session, OnlyRuntimePaths: true,
		RuntimePaths: []string{runc, crun}, StateRoots: []string{stateRoot}, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	touch := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "handler:", err)
		}
	}

	go func() {
		if eventually(h.Ready) == nil {
			touch("ready")
		}
	}()
	return errors.Join(h.Run(ctx, nil, func(e event.Event) {
		switch {
		case e.State == event.Created && e.Init.PID != 0 && e.Init.Namespaces.Mount != 0:
			// Late: a process whose start is not held would look before, and not find it.
			<-time.After(200 * time.Millisecond)
			touch(e.ID)
		case e.State == event.Stopped && e.ExitCode != nil:
			touch(exitFile(e.ID, int(*e.ExitCode)))
		}
	}), session.Close())
}

func exitFile(id string, code int) string { return fmt.Sprintf("%s.exit.%d", id, code) }

// held checks that a container's process does not begin before the handler has returned.
func (r *report) held() {
	handler, err := startHandler()
	r.add("a handler is called", err)
	if handler == nil {
		return
	}
	for _, runtime := range []string{runc, crun} {
		var wrong []error
		for i := range each {
			wrong = append(wrong, heldAtStart(runtime, fmt.Sprintf("%s-held-%d", filepath.Base(runtime), i)))
		}
		r.add(fmt.Sprintf("%s start is held until the handler returns, %d times", filepath.Base(runtime), each), errors.Join(wrong...))
	}

	kill := time.AfterFunc(patience, func() { _ = handler.Process.Kill() })
	defer kill.Stop()
	r.add("the handler's process ends well", errors.Join(handler.Process.Signal(syscall.SIGTERM), handler.Wait()))
}

func startHandler() (*exec.Cmd, error) {
	dir := rootfs + handled
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	handler := inPod("/init", asHook, hostDir+dir)
	handler.Stdout, handler.Stderr = os.Stdout, os.Stderr
	if err := handler.Start(); err != nil {
		return nil, fmt.Errorf("start the handler: %w", err)
	}
	return handler, eventually(func() error {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err
	})
}

// heldAtStart runs a process that looks for the handler's file as its very first act, and says so by its exit code.
func heldAtStart(runtime, id string) error {
	c, err := newContainer(runtime, id, func(s *specs.Spec) {
		s.Process.Args = []string{"/probe", "stat", filepath.Join(handled, id)}
	})
	if err != nil {
		return err
	}
	if err := errors.Join(c.create(), c.start()); err != nil {
		return err
	}

	var ended []string
	if err := eventually(func() error {
		if ended, err = filepath.Glob(filepath.Join(rootfs+handled, id+".exit.*")); err == nil && len(ended) == 0 {
			err = fmt.Errorf("the end of %s was not handled", id)
		}
		return err
	}); err != nil {
		return err
	}
	for i := range ended {
		ended[i] = filepath.Base(ended[i])
	}
	return errors.Join(differ("ended as", strings.Join(ended, " "), exitFile(id, 0)), c.delete())
}
