package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/containerhook/containerhook/test/api/controlplane"
)

// plane has everything of config/ installed. It is shared: a test that stops its API server starts one of its own.
var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	ctx := context.Background()
	began := time.Now()
	var err error
	if plane, err = controlplane.Start(ctx); err != nil {
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
