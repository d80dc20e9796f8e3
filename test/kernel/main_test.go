package kernel

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Made by TestMain, for all tests.
var (
	runDir      string // everything of this run is below it, or bears its base name
	agentBinary string
	probeBinary string
)

func TestMain(m *testing.M) {
	if target := os.Getenv(enterEnv); target != "" {
		enter(target) // never returns
	}
	if kind := os.Getenv(handlerEnv); kind != "" {
		os.Exit(runHandler(kind))
	}
	if what := os.Getenv(hangEnv); what != "" {
		if err := runHang(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
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
	agentBinary, probeBinary = filepath.Join(runDir, "agent"), filepath.Join(runDir, "probe")
	for output, pkg := range map[string]string{agentBinary: "../../cmd/agent", probeBinary: "./probe"} {
		build := exec.Command("go", "build", "-o", output, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "FAIL: build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	code := m.Run()
	removeCgroups()
	for _, left := range traces() {
		fmt.Fprintln(os.Stderr, "FAIL: left behind:", left)
		code = 1
	}
	return code
}

// testCgroup is the cgroup that all containers of this run are below.
func testCgroup() string { return filepath.Base(runDir) }

// removeCgroups removes what runtimes leave of the test's own cgroup: its top in each hierarchy. One that is in use stays,
// and is found.
func removeCgroups() {
	tops, _ := filepath.Glob("/sys/fs/cgroup/" + testCgroup())
	more, _ := filepath.Glob("/sys/fs/cgroup/*/" + testCgroup())
	for _, top := range append(tops, more...) {
		_ = os.Remove(top)
	}
}

// traces is what this run has left on the machine: mounts, cgroups, network namespaces, containers' state, processes.
func traces() []string {
	name := filepath.Base(runDir)
	var found []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			found = append(found, "mount "+line)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, name) {
			found = append(found, "cgroup "+path)
		}
		return nil
	})
	for _, pattern := range []string{"/run/netns/*", "/run/runc/*", "/run/crun/*"} {
		matches, _ := filepath.Glob(pattern)
		for _, match := range matches {
			if strings.Contains(match, idPrefix()) {
				found = append(found, match)
			}
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range commands {
		if command, _ := os.ReadFile(file); bytes.Contains(command, []byte(name)) {
			found = append(found, fmt.Sprintf("process %s %q", filepath.Base(filepath.Dir(file)), command))
		}
	}
	return found
}

// idPrefix begins the ID of every container of this run.
func idPrefix() string { return "t" + strings.TrimPrefix(filepath.Base(runDir), "containerhook-test-") }
