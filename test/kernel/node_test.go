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
	out, err := os.CreateTemp(n.dir, "output-")
	if err != nil {
		n.t.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := n.command(runtime, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	said, _ := os.ReadFile(out.Name())
	if err != nil && cmd.ProcessState == nil {
		n.t.Fatalf("%s %s: %v", filepath.Base(runtime), strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), string(bytes.TrimSpace(said))
}

// script runs a shell script, with the runtime and its --root as $0. Go's own forks wait for each other's execs, and with
// them for whoever holds one: what is to happen beside a measurement happens in another process.
func (n *node) script(script string, args ...string) {
	n.t.Helper()
	cmd := exec.Command("sh", append([]string{"-ec", script, n.runc + " --root " + n.stateRoot}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
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
	n.t.Cleanup(func() { n.do(runtime, "delete", "--force", id) })
}
