package kernel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/test/machine"
)

// node is a place to make containers in, with runtimes of its own.
type node struct {
	t                  *testing.T
	dir, stateRoot     string
	runc, crun, conmon string
	marked, unmarked   string // the probe: one copy marked as if it were a runtime, one not
	rootfs             string
	files              uint64 // limit of open files of agents; 0: as it is
}

// made counts containers, for their IDs.
var made atomic.Int64

// newNode copies the runtimes. Everything is gone when the test ends.
func newNode(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp(runDir, "node-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{t: t, dir: dir, stateRoot: filepath.Join(dir, "state"), rootfs: filepath.Join(dir, "rootfs")}
	n.runc, n.crun, n.conmon = n.copyOf("runc"), n.copyOf("crun"), n.copyOf("conmon")
	n.marked, n.unmarked = filepath.Join(dir, "bin", "marked"), filepath.Join(dir, "bin", "unmarked")
	copyFile(t, probeBinary, n.marked)
	copyFile(t, probeBinary, n.unmarked)
	copyFile(t, probeBinary, filepath.Join(n.rootfs, "probe"))
	return n
}

// copyOf makes a private copy of an installed binary.
func (n *node) copyOf(name string) string {
	n.t.Helper()
	to := filepath.Join(n.dir, "bin", name)
	if err := machine.CopyInstalled(name, to); err != nil {
		n.t.Fatal(err)
	}
	return to
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := machine.Copy(from, to); err != nil {
		t.Fatal(err)
	}
}

// bundle makes a bundle whose container runs the probe with args; edit, where it is not nil, changes its config.json.
func (n *node) bundle(args []string, edit func(*specs.Spec)) (id, dir string) {
	n.t.Helper()
	id = fmt.Sprintf("%s-%d", idPrefix(), made.Add(1))
	dir = filepath.Join(n.dir, "bundles", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	s := defaultSpec(n.t)
	s.Root = &specs.Root{Path: n.rootfs, Readonly: true}
	s.Process.Terminal, s.Process.Args = false, append([]string{"/probe"}, args...)
	s.Linux.CgroupsPath = "/" + testCgroup() + "/" + id
	if edit != nil {
		edit(s)
	}
	n.write(dir, s)
	return id, dir
}

// edit changes the config.json of a bundle.
func (n *node) edit(bundle string, change func(*specs.Spec)) {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		n.t.Fatal(err)
	}
	change(&s)
	n.write(bundle, &s)
}

func (n *node) write(bundle string, s *specs.Spec) {
	n.t.Helper()
	if err := machine.WriteSpec(bundle, s); err != nil {
		n.t.Fatal(err)
	}
}

func defaultSpec(t *testing.T) *specs.Spec {
	t.Helper()
	s, err := machine.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// command prepares a runtime with the node's own state directory. What it prints goes to a file, for a container that
// outlives its runtime would keep a pipe open.
func (n *node) command(runtime string, args ...string) *exec.Cmd {
	argv := append([]string{runtime, "--root", n.stateRoot}, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	if runtime == n.crun && hybrid() {
		// crun 1.8.1 refuses the hybrid hierarchy of cgroups: for it, it is taken apart.
		script := append([]string{"-c", `umount /sys/fs/cgroup/unified && exec "$0" "$@"`}, argv...)
		cmd = exec.Command("unshare", append([]string{"--mount", "sh"}, script...)...)
	}
	return cmd
}

// hybrid says whether cgroup v1 and v2 are both mounted here.
func hybrid() bool {
	_, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs")
	return err == nil
}

// do runs a runtime to its end and returns its exit code; -1 with a signal.
func (n *node) do(runtime string, args ...string) (code int, output string) {
	n.t.Helper()
	code, output, err := n.end(n.command(runtime, args...))
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", filepath.Base(runtime), strings.Join(args, " "), err, output)
	}
	return code, output
}

// limitOf is the limit of a command that executes so many programs one after another, a tenth of a second each.
func limitOf(count int) time.Duration { return limit + time.Duration(count)*100*time.Millisecond }

// bounded runs a command to its end, or for so long at most, and returns what it printed. Its error has the exit status.
func bounded(most time.Duration, cmd *exec.Cmd) (string, error) {
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	cmd.WaitDelay = time.Second // a child that is left over may keep the pipe open
	if err := cmd.Start(); err != nil {
		return "", err
	}

	var late atomic.Bool
	timer := time.AfterFunc(most, func() {
		late.Store(true)
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	err := cmd.Wait()
	if late.Load() {
		err = fmt.Errorf("not ended after %v: %w", most, err)
	}
	return printed.String(), err
}

// script runs a shell script, with the runtime and its --root as $0. Go's own forks wait for each other's execs, and with
// them for whoever holds one: what is to happen beside a measurement happens in another process.
func (n *node) script(script string, args ...string) {
	n.t.Helper()
	cmd := exec.Command("sh", append([]string{"-ec", script, n.runc + " --root " + n.stateRoot}, args...)...)
	if out, err := bounded(limit, cmd); err != nil {
		n.t.Errorf("%s: %v\n%s", script, err, out)
	}
}

// must is do, for what has to work.
func (n *node) must(runtime string, args ...string) {
	n.t.Helper()
	if code, output := n.do(runtime, args...); code != 0 {
		n.t.Fatalf("%s %s: exit code %d: %s", filepath.Base(runtime), strings.Join(args, " "), code, output)
	}
}

// remove makes sure that a container is gone when the test ends.
func (n *node) remove(runtime, id string) {
	n.t.Cleanup(func() {
		if code, output, err := n.end(n.command(runtime, "delete", "--force", id)); code != 0 || err != nil {
			n.t.Errorf("%s delete --force %s: exit code %d: %v: %s", filepath.Base(runtime), id, code, err, output)
		}
	})
}
