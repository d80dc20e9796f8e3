package api

import (
	"context"
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
	plane  *controlplane.ControlPlane // has config/default installed; a parallel test takes one by ownPlane
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
	if plane, err = startPlane(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	fillPlanes()
	fmt.Fprintf(os.Stderr, "API server ready after %s\n", time.Since(began).Round(time.Millisecond))

	machine.RunAtOnce(atOnce)
	code := m.Run()
	if err := stopPlanes(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return code
}
