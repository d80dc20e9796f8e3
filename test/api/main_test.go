package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// Made by TestMain, for all tests.
var (
	plane  *controlplane.ControlPlane // has everything of config/ installed; a test that stops its API server starts one of its own
	runDir string                     // has all that API servers have
)

func TestMain(m *testing.M) {
	machine.Enter()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	ctx := context.Background()
	began := time.Now()
	var err error
	if runDir, err = os.MkdirTemp("", "containerhook-test-"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	defer os.RemoveAll(runDir)
	if err := machine.EraseAtTheEnd(runDir, filepath.Base(runDir)); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	if plane, err = controlplane.Start(ctx, runDir); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	if err := plane.Install(ctx, "default"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", errors.Join(err, plane.Stop()))
		return 1
	}
	fmt.Fprintf(os.Stderr, "API server ready after %s\n", time.Since(began).Round(time.Millisecond))
	code := m.Run()
	if err := plane.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return code
}
