package kernel

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// launcher compiles a program (testdata/launch.c) in which the command is literal strings. Its argument says how it
// executes it: fork, vfork, thread, execveat, descriptor, pid N.
func (n *node) launcher(t *testing.T, argv []string) string {
	t.Helper()
	out, err := os.CreateTemp(n.dir, "launch-")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	literals := make([]string, len(argv))
	for i, arg := range argv {
		literals[i] = strconv.Quote(arg)
	}
	gcc := exec.Command("gcc", "-O1", "-Wall", "-o", out.Name(), "testdata/launch.c", "-pthread",
		"-DARGV="+strings.Join(literals, ","), "-DPATH="+literals[0],
		"-DDIR="+strconv.Quote(filepath.Dir(argv[0])), "-DNAME="+strconv.Quote(filepath.Base(argv[0])))
	if said, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, said)
	}
	return out.Name()
}

// launched has a call made by a launcher.
func launched(how string) func(*call) {
	return func(c *call) { c.instead = []string{c.n.launcher(c.t, c.argv()), how} }
}

func writeScript(t *testing.T, name, text string) {
	t.Helper()
	if err := machine.WriteScript(name, text); err != nil {
		t.Fatal(err)
	}
}

// ways are those in which a runtime comes to be executed.
var ways = []form{
	{what: "fork and exec with literal strings", edit: launched("fork")},
	{what: "vfork and exec with literal strings", edit: launched("vfork")},
	{what: "from a thread", edit: launched("thread")},
	{what: "execveat of a name in a directory", edit: launched("execveat")},
	{what: "execveat of a descriptor", edit: launched("descriptor")},
	{what: "through a wrapper that executes it", edit: func(c *call) {
		wrapper := filepath.Join(c.n.dir, "wrapper-"+c.id)
		writeScript(c.t, wrapper, `exec "$@"`)
		c.via = []string{wrapper}
	}},
	{what: "through a wrapper that is marked itself", edit: func(c *call) { // with other options than the runtime then has
		c.program = filepath.Join(c.n.dir, "bin", "wrapper-of-"+c.name)
	}},
	{what: "through a symlink", edit: func(c *call) { c.program = c.link(c.runtime) }},
	{what: "under another name", edit: func(c *call) { c.name = "alias-of-" + c.name; c.program = filepath.Join(c.n.dir, "bin", c.name) }},
	{what: "with another argv[0]", edit: func(c *call) {
		c.instead = slices.Concat([]string{"bash", "-c", `exec -a conjurer "$0" "$@"`}, c.argv())
	}},
	{what: "in another mount namespace and chroot", edit: func(c *call) {
		c.bundle = "/mnt/only-there" // only there
		c.options = []string{"--bundle", c.bundle}
		c.instead = slices.Concat([]string{"unshare", "--mount", "sh", "-ec", `
			new=$1 bundle=$2; shift 2
			mkdir "$new"; mount --rbind / "$new"; mount -t tmpfs tmpfs "$new/mnt"
			cp -r "$bundle" "$new/mnt/only-there"
			cd /; exec chroot "$new" "$@"`, "sh", filepath.Join(c.n.dir, "root-"+c.id), filepath.Join(c.n.dir, "bundles", c.id)}, c.argv())
	}},
}

func TestEveryWayToExecuteARuntimeIsSeen(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	var more []string
	for _, runtime := range []string{n.runc, n.crun} {
		dir, name := filepath.Split(runtime)
		copyFile(t, runtime, dir+"alias-of-"+name)
		writeScript(t, dir+"wrapper-of-"+name, "exec "+runtime+` --debug "$@"`)
		more = append(more, dir+"alias-of-"+name, dir+"wrapper-of-"+name)
	}
	a := n.startAgent("--deadline", "1s", "--runtime-path", strings.Join(more, ","))
	if marked := a.metric("containerhook_marked_runtimes"); marked != 8 { // runc, crun, conmon, the probe, and more
		t.Fatalf("%v files are marked", marked)
	}
	a.checkAll(t, n, ways)
}

// TestAnIDThatIsUsedAgainIsAnotherInstance: with each runtime, three times.
func TestAnIDThatIsUsedAgainIsAnotherInstance(t *testing.T) {
	t.Parallel()
	const times = 3
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	for _, runtime := range []string{n.runc, n.crun} {
		t.Run(filepath.Base(runtime), func(t *testing.T) {
			c := n.newCall(t, runtime)
			instances := map[string]string{}
			for i := range times {
				before := len(a.history(c.id))
				mustEnd(t, n, c.command(), 0)
				mustEnd(t, n, c.next("start", c.id), 0)
				if err := poll(limit, func() error {
					if told := a.history(c.id); entered(told, v1alpha1.StateStopped) <= i {
						return fmt.Errorf("told %s", states(told))
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				mustEnd(t, n, c.next("delete", c.id), 0)
				told := a.history(c.id)[before:]
				c.checkEnded(told)
				instances[last(told).Name] = transitions(told)
			}
			if len(instances) != times {
				t.Errorf("%d instances were told as %v", times, instances)
			}
			t.Logf("one ID, %d instances: %v", times, slices.Sorted(maps.Keys(instances)))
		})
	}
}

// TestOtherExecsOfARuntimeAreNotContainers: whatever else a runtime can be asked for, of a container that is there and of
// one that is not.
func TestOtherExecsOfARuntimeAreNotContainers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.startAgent("--deadline", "1s")
	held, others := "containerhook_exec_events_total", 0
	for _, runtime := range []string{n.runc, n.crun} {
		t.Run(filepath.Base(runtime), func(t *testing.T) {
			id, bundle := n.bundle([]string{"sleep"}, nil)
			n.remove(runtime, id)
			n.must(runtime, "run", "--detach", "--bundle", bundle, id)
			told := len(a.state(t, id, v1alpha1.StateRunning))
			before := a.metric(held)
			for _, words := range []string{"--version", "--help", "", "list", "state ID", "state GONE", "ps ID", "exec ID /probe exit 0",
				"exec --detach ID /probe exit 0", "pause ID", "resume ID", "kill ID 0", "kill GONE 9", "update --pids-limit 100 ID", "features",
				"events --stats ID", "create --help", "run --help", "create", "start", "delete --help", "start --help GONE", "spec --help",
				"--log /dev/null state ID", "exec ID /probe exit create", "nonsense create", "delete GONE", "start GONE", "checkpoint --help"} {
				args := strings.Fields(strings.NewReplacer("ID", id, "GONE", id+"-gone").Replace(words))
				// Many of them fail; what none may is not to be executed (126, 127) or to be killed (-1).
				if code, out, err := n.end(n.command(runtime, args...)); err != nil || code < 0 || code >= 126 {
					t.Fatalf("%q ended with %d: %v: %s", words, code, err, out)
				}
				others++
			}
			if got := a.metric(held) - before; got < 20 {
				t.Errorf("%v execs were held", got)
			}
			a.settled(n)
			if got := a.history(id); len(got) != told {
				t.Errorf("told %s", states(got))
			}
			if got := a.history(id + "-gone"); len(got) != 0 {
				t.Errorf("one that is not there was told: %s", states(got))
			}
		})
	}
	for id, told := range a.all() {
		if told[0].Spec.Entrypoint != "/probe" {
			t.Errorf("%q was told: %s", id, states(told))
		}
	}
	t.Logf("%d other commands, %d containers told, all of them real", others, len(a.all()))
}
