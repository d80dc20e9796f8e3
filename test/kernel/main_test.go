package kernel

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/test/machine"
)

// Made by TestMain, for all tests.
var (
	runDir      string // everything of this run is below it, or bears its base name
	agentBinary string
	probeBinary string
)

func TestMain(m *testing.M) {
	machine.Enter()
	if kind := os.Getenv(handlerEnv); kind != "" {
		os.Exit(runHandler(kind))
	}
	if how := os.Getenv(endEnv); how != "" {
		runUntil(how)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: the kernel tests need root")
		return 1
	}
	var err error
	if runDir, err = os.MkdirTemp("", "containerhook-test-"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	defer os.RemoveAll(runDir)
	if err := machine.EraseAtTheEnd(runDir, idPrefix()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	agentBinary, probeBinary = filepath.Join(runDir, "agent"), filepath.Join(runDir, "probe")
	if err := machine.Build(context.Background(), map[string]string{agentBinary: "../../cmd/agent", probeBinary: "./probe"}); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	// Most of a test is waiting. Those that measure how long something is held, or flood the machine, are not parallel.
	flag.Parse()
	if most := flag.Lookup("test.parallel"); most.Value.String() == most.DefValue {
		if err := most.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			return 1
		}
	}
	code := m.Run()
	for _, left := range machine.Traces(testCgroup(), idPrefix()) {
		fmt.Fprintln(os.Stderr, "FAIL: left behind:", left)
		code = 1
	}
	return code
}

// testCgroup is the cgroup that all containers of this run are below.
func testCgroup() string { return filepath.Base(runDir) }

// idPrefix begins the ID of every container of this run.
func idPrefix() string { return "t" + strings.TrimPrefix(filepath.Base(runDir), "containerhook-test-") }
