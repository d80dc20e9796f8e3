package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/object"
)

// call is one call of a runtime that makes a container, which exits with 7.
type call struct {
	n       *node
	t       *testing.T
	runtime string // a path

	via     []string // what executes the rest, and
	instead []string // what is executed in the place of all of it
	program string   // as it is executed: the runtime, by some path
	globals []string
	verb    string
	options []string // the ID comes after them
	id      string
	dir     string // the working directory
	env     []string

	bundle string // what is to be told
	name   string // of the runtime, likewise
	root   string // its state directory, for the next call
}

// newCall is a plain create.
func (n *node) newCall(t *testing.T, runtime string) *call {
	id, bundle := n.bundle([]string{"exit", "7"}, nil)
	return &call{n: n, t: t, runtime: runtime, program: runtime, globals: []string{"--root", n.stateRoot}, verb: "create",
		options: []string{"--bundle", bundle}, id: id, dir: n.dir, bundle: bundle, name: filepath.Base(runtime), root: n.stateRoot}
}

// argv is what is executed, less what executes it.
func (c *call) argv() []string {
	return slices.Concat([]string{c.program}, c.globals, []string{c.verb}, c.options, []string{c.id})
}

func (c *call) command() *exec.Cmd {
	argv := c.instead
	if argv == nil {
		argv = slices.Concat(c.via, c.argv())
	}
	cmd := c.n.exactly(c.runtime, argv...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	return cmd
}

// exactly prepares argv where that runtime works, and adds nothing to it.
func (n *node) exactly(runtime string, argv ...string) *exec.Cmd {
	before := n.command(runtime).Args
	argv = slices.Concat(before[:len(before)-len([]string{runtime, "--root", n.stateRoot})], argv)
	return exec.Command(argv[0], argv[1:]...)
}

// limit is more than anything takes here, however busy the machine is.
const limit = 30 * time.Second

// end runs a command to its end, or that limit, and returns its exit code; -1 with a signal. What it prints goes to a
// file, for a container that outlives its runtime would keep a pipe open.
func (n *node) end(cmd *exec.Cmd) (code int, output string, err error) {
	out, err := os.CreateTemp(n.dir, "output-")
	if err != nil {
		return 0, "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	var late atomic.Bool
	timer := time.AfterFunc(limit, func() {
		late.Store(true)
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	_ = cmd.Wait() // its state says how it ended

	said, err := os.ReadFile(out.Name())
	if late.Load() {
		err = errors.Join(err, fmt.Errorf("not ended after %v", limit))
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(said)), err
}

// mustEnd ends the test where cmd does not end with code.
func mustEnd(t *testing.T, n *node, cmd *exec.Cmd, code int) {
	t.Helper()
	got, out, err := n.end(cmd)
	if err != nil || got != code {
		t.Fatalf("%.200q ended with %d, not %d: %v\n%s", cmd.Args, got, code, err, lastOf(out))
	}
}

// state waits until a container is told in a state, for this test, and returns all that was told of it.
func (a *agent) state(t *testing.T, id string, state v1alpha1.ContainerState) []v1alpha1.NodeContainer {
	t.Helper()
	if err := poll(limit, func() error {
		told := a.history(id)
		if !slices.ContainsFunc(told, func(c v1alpha1.NodeContainer) bool { return c.Status.State == state }) {
			return fmt.Errorf("%s was not told as %s: %s", id, state, states(told))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return a.history(id)
}

// form is a way to say create.
type form struct {
	what string
	only string // the one runtime that knows it
	edit func(*call)
}

var forms = []form{
	{what: "create", edit: func(*call) {}},
	{what: "run", edit: func(c *call) { c.verb = "run" }},
	{what: "run -d", edit: func(c *call) { c.verb, c.options = "run", append(c.options, "-d") }},
	{what: "run --detach", edit: func(c *call) { c.verb, c.options = "run", append(c.options, "--detach") }},

	{what: "--bundle=X", edit: func(c *call) { c.options = []string{"--bundle=" + c.bundle} }},
	{what: "-b X", edit: func(c *call) { c.options = []string{"-b", c.bundle} }},
	{what: "-bX", only: "crun", edit: func(c *call) { c.options = []string{"-b" + c.bundle} }},
	{what: "-bundle X", only: "runc", edit: func(c *call) { c.options = []string{"-bundle", c.bundle} }},
	{what: "--bundle .", edit: func(c *call) { c.dir, c.options = c.bundle, []string{"--bundle", "."} }},
	{what: "no bundle", edit: func(c *call) { c.dir, c.options = c.bundle, nil }},
	{what: "a relative bundle with ..", edit: func(c *call) {
		c.dir = filepath.Join(c.bundle, "deeper")
		c.make(c.dir)
		c.options = []string{"--bundle", "../../" + filepath.Base(c.bundle) + "/deeper/.."}
	}},
	{what: "a relative bundle with .. behind a symlink", edit: func(c *call) {
		c.make(filepath.Join(c.bundle, "deeper"))
		c.dir = c.link(filepath.Join(c.bundle, "deeper"))
		c.options = []string{"--bundle", ".."}
	}},
	{what: "a symlinked bundle", edit: func(c *call) { c.options = []string{"--bundle", c.link(c.bundle)} }},
	{what: "a bundle path of 1,020 bytes", edit: func(c *call) { c.longBundle(1020) }},
	{what: "a bundle path of 3,000 bytes", edit: func(c *call) { c.longBundle(3000) }},
	{what: "another config", only: "crun", edit: func(c *call) {
		c.rename(filepath.Join(c.bundle, "config.json"), filepath.Join(c.bundle, "other.json"))
		c.options = append(c.options, "--config", filepath.Join(c.bundle, "other.json"))
	}},

	{what: "60 global flags", edit: func(c *call) {
		for range 20 {
			c.globals = append(c.globals, "--log-format", "json", "--log="+filepath.Join(c.bundle, "log"), "--debug")
		}
	}},
	{what: "an argv of 32 KiB", edit: func(c *call) {
		long := strings.Repeat("x", 1000)
		for len(strings.Join(c.globals, " ")) < 32<<10 {
			c.globals = append(c.globals, "--log", long)
		}
		c.globals = append(c.globals, "--log", filepath.Join(c.bundle, "log"))
	}},

	{what: "--pid-file X", edit: func(c *call) { c.options = append(c.options, "--pid-file", filepath.Join(c.bundle, "pid")) }},
	{what: "--pid-file=X", edit: func(c *call) { c.options = append(c.options, "--pid-file="+filepath.Join(c.bundle, "pid")) }},
	{what: "a relative pid file before the bundle", edit: func(c *call) {
		c.dir, c.options = c.bundle, []string{"--pid-file", "pid", "--bundle", c.bundle}
	}},

	{what: "--root=X", edit: func(c *call) { c.globals = []string{"--root=" + c.root} }},
	{what: "a single dash: -root X", only: "runc", edit: func(c *call) { c.globals = []string{"-root", c.root} }},
	{what: "--root last of the globals", edit: func(c *call) {
		c.globals = []string{"--log", filepath.Join(c.bundle, "log"), "--debug", "--root", c.root}
	}},
	{what: "--root twice", edit: func(c *call) { c.globals = []string{"--root", "/nowhere", "--root", c.root} }},
	{what: "a relative --root", only: "runc", edit: func(c *call) { c.globals = []string{"--root", "./bin/../" + filepath.Base(c.root)} }}, // to crun it is relative to the bundle
	{what: "a symlinked --root", edit: func(c *call) { c.make(c.root); c.globals = []string{"--root", c.link(c.root)} }},
	{what: "no --root", edit: func(c *call) {
		c.globals, c.root, c.env = nil, "/run/"+c.name, []string{"XDG_RUNTIME_DIR="}
	}},

	{what: "an ID of all characters", edit: func(c *call) { c.id += ".a+b.C_d-1" }},
	{what: "an ID of 200 characters", edit: func(c *call) { c.id += strings.Repeat("x", 200-len(c.id)) }},
}

// make makes a directory.
func (c *call) make(dir string) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
}

func (c *call) rename(from, to string) {
	if err := os.Rename(from, to); err != nil {
		c.t.Fatal(err)
	}
}

// link makes a symlink to a directory and returns its path.
func (c *call) link(to string) string {
	link := filepath.Join(c.n.dir, "link-"+c.id)
	if err := os.Symlink(to, link); err != nil {
		c.t.Fatal(err)
	}
	return link
}

// longBundle moves the bundle to where its path is that long.
func (c *call) longBundle(length int) {
	dir := filepath.Join(c.n.dir, "long", c.id)
	for left := length - len(dir); left > 0; left = length - len(dir) {
		part := min(left-1, 200)
		if rest := left - 1 - part; rest == 1 { // a slash alone makes no path longer
			part--
		}
		dir += "/" + strings.Repeat("d", part)
	}
	c.make(filepath.Dir(dir))
	c.rename(c.bundle, dir)
	c.bundle, c.options = dir, []string{"--bundle", dir}
}

func TestEveryFormOfACommandIsUnderstood(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s") // what a busy machine makes late is another test's matter
	a.checkAll(t, n, forms)
}

// checkAll makes a container in each form with each runtime, two at a time.
func (a *agent) checkAll(t *testing.T, n *node, forms []form) {
	t.Helper()
	count := 0
	t.Run("all", func(t *testing.T) {
		for _, f := range forms {
			for _, runtime := range []string{n.runc, n.crun} {
				if name := filepath.Base(runtime); f.only == "" || f.only == name {
					count++
					t.Run(f.what+" with "+name, func(t *testing.T) {
						t.Parallel()
						c := n.newCall(t, runtime)
						f.edit(c)
						c.checkMade(a)
					})
				}
			}
		}
	})
	if missed := a.metric("containerhook_missed_containers_total"); missed != 0 {
		t.Errorf("%v containers were only found by a listing", missed)
	}
	t.Logf("%d forms with real runtimes: each told once, in order, with its facts; late answers: %v", count,
		a.metric("containerhook_deadline_exceeded_total"))
}

// newFormsNode is a node whose containers can be made at the same time: two cruns would both make what is missing in
// the root file system.
func newFormsNode(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	for _, dir := range []string{"proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(n.rootfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// checkMade makes the container, starts it where that is another command, and checks what is told of it.
func (c *call) checkMade(a *agent) {
	c.t.Helper()
	c.remove(c.id)
	code := 0
	if c.verb == "run" && !slices.ContainsFunc(c.options, func(o string) bool { return o == "-d" || o == "--detach" }) {
		code = 7 // the container's
	}
	mustEnd(c.t, c.n, c.command(), code)
	if c.verb == "create" {
		c.checkCreated(a.state(c.t, c.id, v1alpha1.StateCreated))
		mustEnd(c.t, c.n, c.next("start", c.id), 0)
	}
	c.checkEnded(a.state(c.t, c.id, v1alpha1.StateStopped))
}

// remove makes sure that a container that the call's runtime knows is gone when the test ends.
func (c *call) remove(id string) {
	c.t.Cleanup(func() {
		if code, out, err := c.n.end(c.next("delete", "--force", id)); code != 0 || err != nil {
			c.t.Errorf("delete --force %s: exit code %d: %v: %s", id, code, err, out)
		}
	})
}

// next prepares another command for the same container.
func (c *call) next(args ...string) *exec.Cmd {
	cmd := c.n.exactly(c.runtime, slices.Concat([]string{c.runtime, "--root", c.root}, args)...)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

// checkCreated compares the pid that was told with the ones that the runtime wrote.
func (c *call) checkCreated(told []v1alpha1.NodeContainer) {
	c.t.Helper()
	pid := fmt.Sprint(last(told).Status.PID)
	if want := c.nameOf(pid); last(told).Name != want {
		c.t.Errorf("it is called %s, and with its runtime's root %s", last(told).Name, want)
	}
	_, state, err := c.n.end(c.next("state", c.id))
	if err != nil || !strings.Contains(state, `"pid": `+pid+",") {
		c.t.Errorf("told pid %s; the runtime says %v %s", pid, err, state)
	}
	if strings.Contains(strings.Join(c.options, " "), "--pid-file") {
		if written, err := os.ReadFile(filepath.Join(c.bundle, "pid")); string(written) != pid {
			c.t.Errorf("told pid %s; the pid file says %q: %v", pid, written, err)
		}
	}
}

// nameOf is the name of the container's object: it is made of the root of its runtime, free of symlinks, its ID and its
// init's start time (proc_pid_stat(5), field 22).
func (c *call) nameOf(pid string) string {
	c.t.Helper()
	root := c.root
	if located, err := filepath.EvalSymlinks(root); err == nil {
		root = located
	}
	node, err := os.Hostname()
	boot, bootErr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	stat, statErr := os.ReadFile("/proc/" + pid + "/stat")
	if err := errors.Join(err, bootErr, statErr); err != nil {
		c.t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.ParseUint(strings.Fields(fields)[19], 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return object.Name(node, strings.TrimSpace(string(boot)), event.Key{Root: root, ID: c.id, StartTicks: ticks})
}

func (c *call) checkEnded(told []v1alpha1.NodeContainer) {
	c.t.Helper()
	if got := transitions(told); got != "Creating → Created → Running → Stopped" {
		c.t.Errorf("told as %s", got)
	}
	end := last(told)
	cut := c.bundle
	if len(cut) > maxTold {
		cut = cut[:maxTold]
	}
	for what, pair := range map[string][2]string{
		"bundle":     {end.Spec.Bundle, cut},
		"truncated":  {strconv.FormatBool(slices.Contains(end.Spec.Truncated, "bundle")), strconv.FormatBool(len(c.bundle) > maxTold)},
		"runtime":    {end.Spec.Runtime.Name, c.name},
		"entrypoint": {end.Spec.Entrypoint, "/probe"},
		"exit code":  {exitOf(end), "7"},
		"seen by":    {seenBy(&end), v1alpha1.ReasonHook},
		"instance":   {end.Name, told[0].Name},
		"problem":    {problemOf(end), ""},
	} {
		if pair[0] != pair[1] {
			c.t.Errorf("%s is %.300q, want %.300q", what, pair[0], pair[1])
		}
	}
}

// maxTold is how many bytes of a path are told.
const maxTold = 1024

// exitOf is the exit code that was told, in words.
func exitOf(c v1alpha1.NodeContainer) string {
	if c.Status.ExitCode == nil {
		return "unknown"
	}
	return fmt.Sprint(*c.Status.ExitCode)
}

// problemOf is why facts could not be read, or empty.
func problemOf(c v1alpha1.NodeContainer) string {
	if missing := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionFactsMissing); missing != nil {
		return missing.Message
	}
	return ""
}
