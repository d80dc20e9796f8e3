package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// atOnce is how many tests run at once. Each has a node of its own, and waits for most of its time.
const atOnce = 4

// Made by TestMain, for all tests.
var (
	plane       *controlplane.ControlPlane // has config/ installed; a test that stops its API server starts one of its own
	runDir      string                     // everything of this run is below it, or bears its base name
	agentBinary string
	probeBinary string
)

func TestMain(m *testing.M) {
	machine.Enter()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: the agent's tests need root")
		return 1
	}
	log.SetLogger(logr.Discard()) // controller-runtime says else that it has none
	defer func() {
		for _, left := range machine.Traces(filepath.Base(runDir), idPrefix()) {
			fmt.Fprintln(os.Stderr, "FAIL: left behind:", left)
			code = 1
		}
	}()
	stop, err := prepare(context.Background())
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	machine.RunAtOnce(atOnce)
	return m.Run()
}

// prepare makes what all tests share. What it returns takes that away, also where there is an error.
func prepare(ctx context.Context) (stop func(), err error) {
	if runDir, err = os.MkdirTemp("", "containerhook-test-"); err != nil {
		return func() {}, err
	}
	stop = func() { os.RemoveAll(runDir) }
	if err := machine.EraseAtTheEnd(runDir, idPrefix()); err != nil {
		return stop, err
	}
	agentBinary, probeBinary = filepath.Join(runDir, "agent"), filepath.Join(runDir, "probe")
	if err := machine.Build(ctx, map[string]string{agentBinary: "../../../cmd/agent", probeBinary: "../../kernel/probe"}); err != nil {
		return stop, err
	}
	if plane, err = startPlane(ctx, "default", "compact"); err != nil {
		return stop, err
	}
	return func() {
		if err := plane.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
		}
		os.RemoveAll(runDir)
	}, nil
}

// startPlane starts an API server with parts of config/ installed.
func startPlane(ctx context.Context, parts ...string) (*controlplane.ControlPlane, error) {
	p, err := controlplane.Start(ctx, runDir)
	if err != nil {
		return nil, err
	}
	if err := p.Install(ctx, parts...); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// idPrefix begins the ID of every container of this run.
func idPrefix() string { return "t" + strings.TrimPrefix(filepath.Base(runDir), "containerhook-test-") }
