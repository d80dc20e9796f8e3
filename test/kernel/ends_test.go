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
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// end is a way for a container to end that is running by then.
type end struct {
	what   string
	args   []string // of the probe
	edit   func(c *call, s *specs.Spec)
	act    func(c *call, a *agent) // when it runs; nil where it ends by itself
	code   int
	signal int32
	reason v1alpha1.StopReason
	oom    bool
	check  func(c *call)
}

var ends = []end{
	{what: "exit 0", args: []string{"exit", "0"}, reason: v1alpha1.StopCompleted},
	{what: "exit 3", args: []string{"exit", "3"}, code: 3, reason: v1alpha1.StopError},
	{what: "SIGKILL", args: []string{"sleep"}, act: killed("KILL"), code: 137, signal: 9, reason: v1alpha1.StopError},
	{what: "SIGSEGV without a core", args: []string{"kill", "11"}, edit: coreOf(0), check: hasCore(false),
		code: 139, signal: 11, reason: v1alpha1.StopError},
	{what: "SIGSEGV with a core", args: []string{"kill", "11"}, edit: coreOf(1 << 30), check: hasCore(true),
		code: 139, signal: 11, reason: v1alpha1.StopError},
	{what: "a group exit by another thread", args: []string{"group", "5"}, code: 5, reason: v1alpha1.StopError},
	{what: "a group exit after the leader's", args: []string{"threads", "6"}, code: 6, reason: v1alpha1.StopError},
	{what: "OOM of the init", args: []string{"eat"}, edit: limitMemory, code: 137, signal: 9,
		reason: v1alpha1.StopOOMKilled, oom: true},
	{what: "OOM of a child", args: []string{"feed"}, edit: limitMemory, act: func(c *call, a *agent) {
		if err := poll(limit, func() error {
			if now := last(a.history(c.id)); now.Status.State != v1alpha1.StateRunning || !now.Status.OOMKilled {
				return fmt.Errorf("%s, OOMKilled %v", now.Status.State, now.Status.OOMKilled)
			}
			return nil
		}); err != nil {
			c.t.Error(err)
		}
		if _, state, err := c.n.end(c.next("state", c.id)); !strings.Contains(state, `"running"`) {
			c.t.Errorf("the container did not go on: %v %s", err, state)
		}
		killed("KILL")(c, a)
	}, code: 137, signal: 9, reason: v1alpha1.StopError, oom: true},
	{what: "delete --force", args: []string{"sleep"}, act: func(c *call, _ *agent) {
		mustEnd(c.t, c.n, c.next("delete", "--force", c.id), 0)
	}, code: 137, signal: 9, reason: v1alpha1.StopError},
	{what: "paused and killed", args: []string{"sleep"}, act: func(c *call, a *agent) {
		mustEnd(c.t, c.n, c.next("pause", c.id), 0)
		killed("KILL")(c, a)
		_, _, _ = c.n.end(c.next("resume", c.id)) // with cgroup v1 the frozen do not die; with v2 there is nobody left
	}, code: 137, signal: 9, reason: v1alpha1.StopError},

	{what: "the host's PID namespace, exit 3", args: []string{"exit", "3"}, edit: inHostPID, code: 3, reason: v1alpha1.StopError},
	{what: "the host's PID namespace, SIGKILL", args: []string{"sleep"}, edit: inHostPID, act: killed("KILL"),
		code: 137, signal: 9, reason: v1alpha1.StopError},
	{what: "the host's PID namespace, SIGSEGV", args: []string{"kill", "11"}, edit: inHostPID,
		code: 139, signal: 11, reason: v1alpha1.StopError},
	{what: "the host's PID namespace, OOM of the init", args: []string{"eat"}, code: 137, signal: 9,
		edit:   func(c *call, s *specs.Spec) { inHostPID(c, s); limitMemory(c, s) },
		reason: v1alpha1.StopOOMKilled, oom: true},
	{what: "the host's PID namespace, with OCI hooks", args: []string{"exit", "3"}, code: 3, reason: v1alpha1.StopError,
		edit: func(c *call, s *specs.Spec) { inHostPID(c, s); withHooks(c, s) }},
	{what: "with OCI hooks", args: []string{"exit", "3"}, edit: withHooks, code: 3, reason: v1alpha1.StopError},
	{what: "another container's PID namespace, exit 3", args: []string{"exit", "3"}, edit: inOthersPID,
		code: 3, reason: v1alpha1.StopError},
	{what: "another container's PID namespace, SIGKILL", args: []string{"sleep"}, edit: inOthersPID, act: killed("KILL"),
		code: 137, signal: 9, reason: v1alpha1.StopError},
}

func killed(signal string) func(*call, *agent) {
	return func(c *call, _ *agent) { mustEnd(c.t, c.n, c.next("kill", c.id, signal), 0) }
}

// coreOf lets the process dump so much core, into its bundle.
func coreOf(bytes uint64) func(*call, *specs.Spec) {
	return func(c *call, s *specs.Spec) {
		cores := filepath.Join(c.bundle, "cores")
		c.make(cores)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/cores", Type: "bind", Source: cores, Options: []string{"bind", "rw"}})
		s.Process.Cwd = "/dev/cores"
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: bytes, Soft: bytes}}
	}
}

// hasCore checks that the process left a core in its working directory, or none. kernel.core_pattern is of the whole machine,
// so the test leaves it as it is.
func hasCore(want bool) func(*call) {
	return func(c *call) {
		c.t.Run("its core", func(t *testing.T) {
			pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(pattern), "|") || strings.Contains(string(pattern), "/") {
				t.Skipf("needs a kernel.core_pattern that is a file name, as in: sysctl kernel.core_pattern=core; it is %q", pattern)
			}

			cores, err := os.ReadDir(filepath.Join(c.bundle, "cores"))
			if err != nil || len(cores) > 0 != want {
				t.Errorf("%d cores were dumped: %v", len(cores), err)
			}
		})
	}
}

func limitMemory(_ *call, s *specs.Spec) {
	bytes := int64(64 << 20)
	s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}}
}

func inHostPID(_ *call, s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.PIDNamespace })
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "ro"}})
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
}

// withHooks has something executed at every stage, in the runtime's root and in the container's: none of it is the init.
func withHooks(c *call, s *specs.Spec) {
	args := []string{"probe", "read"}
	host, own := []specs.Hook{{Path: c.n.unmarked, Args: args}}, []specs.Hook{{Path: "/probe", Args: args}}
	s.Hooks = &specs.Hooks{CreateRuntime: host, CreateContainer: host, StartContainer: own, Poststart: host}
}

// inOthersPID has the container join the PID namespace of one that is made for it, as those of a pod that share theirs.
func inOthersPID(c *call, s *specs.Spec) {
	id, bundle := c.n.bundle([]string{"sleep"}, nil)
	c.remove(id)
	pidFile := filepath.Join(bundle, "pid")
	mustEnd(c.t, c.n, c.next("run", "--detach", "--bundle", bundle, "--pid-file", pidFile, id), 0)
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%s/ns/pid", pid)
		}
	}
}

// TestEveryEndIsToldAsItWas: of containers that are created and started, and of ones that are run.
func TestEveryEndIsToldAsItWas(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	count := 0
	t.Run("all", func(t *testing.T) {
		for _, e := range ends {
			for _, runtime := range []string{n.runc, n.crun} {
				for _, verb := range []string{"create", "run"} {
					count++
					t.Run(fmt.Sprintf("%s with %s %s", e.what, filepath.Base(runtime), verb), func(t *testing.T) {
						t.Parallel()
						c := n.newCall(t, runtime)
						c.verb = verb
						e.live(c, a)
					})
				}
			}
		}
	})
	if missed := a.metric("containerhook_missed_containers_total"); missed != 0 {
		t.Errorf("%v containers were only found by a listing", missed)
	}
	t.Logf("%d ends, each told once with its code, signal and reason; late answers: %v", count,
		a.metric("containerhook_deadline_exceeded_total"))
}

// live has a container live and end like that, and checks what is told.
func (e *end) live(c *call, a *agent) {
	c.t.Helper()
	c.remove(c.id)
	c.n.edit(c.bundle, func(s *specs.Spec) {
		s.Process.Args = append([]string{"/probe"}, e.args...)
		if e.edit != nil {
			e.edit(c, s)
		}
	})
	if c.verb == "run" {
		c.options = append(c.options, "--detach")
	}
	mustEnd(c.t, c.n, c.command(), 0)
	if c.verb == "create" {
		c.checkCreated(a.state(c.t, c.id, v1alpha1.StateCreated))
		mustEnd(c.t, c.n, c.next("start", c.id), 0)
	}
	if e.act != nil {
		a.state(c.t, c.id, v1alpha1.StateRunning)
		e.act(c, a)
	}
	told := a.state(c.t, c.id, v1alpha1.StateStopped)
	if err := e.compare(told); err != nil {
		c.t.Error(err)
	}
	if e.check != nil {
		e.check(c)
	}
}

// compare says what of told is not as it should be.
func (e *end) compare(told []v1alpha1.NodeContainer) error {
	var errs []error
	// What is in the host's PID namespace shows only by what it executes.
	got := strings.TrimPrefix(transitions(told), "Creating → ")
	if got != "Created → Running → Stopped" || entered(told, v1alpha1.StateStopped) != 1 {
		errs = append(errs, fmt.Errorf("told as %s", states(told)))
	}
	end := last(told)
	s := end.Status
	if exitOf(end) != fmt.Sprint(e.code) || s.Signal != e.signal || s.Reason != e.reason || s.OOMKilled != e.oom {
		errs = append(errs, fmt.Errorf("told exit code %s, signal %d, %s, OOMKilled %v; want %d, %d, %s, %v",
			exitOf(end), s.Signal, s.Reason, s.OOMKilled, e.code, e.signal, e.reason, e.oom))
	}
	if told[0].Name != end.Name || problemOf(end) != "" || seenBy(&end) != v1alpha1.ReasonHook || s.PID == 0 ||
		s.StartTime == nil || s.FinishTime == nil || s.FinishTime.Before(s.StartTime) {
		errs = append(errs, fmt.Errorf("told %s, %s: %+v", told[0].Name, end.Name, s))
	}
	return errors.Join(errs...)
}

// TestAContainerOutlivesItsShim: whoever waits for it is killed, and its end is told all the same.
func TestAContainerOutlivesItsShim(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	shims := map[string]func(c *call) *os.Process{
		"conmon": func(c *call) *os.Process {
			file := filepath.Join(c.bundle, "conmon-pid")
			conmon := n.underConmon(c.runtime, c.id, c.bundle, "name")
			mustEnd(c.t, n, exec.Command(conmon.Args[0], append(conmon.Args[1:], "--conmon-pidfile", file)...), 0)
			a.state(c.t, c.id, v1alpha1.StateCreated)
			mustEnd(c.t, n, c.next("start", c.id), 0)
			raw, err := os.ReadFile(file)
			if err != nil {
				c.t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
			if err != nil {
				c.t.Fatal(err)
			}
			shim, err := os.FindProcess(pid)
			if err != nil {
				c.t.Fatal(err)
			}
			return shim
		},
		"the runtime itself": func(c *call) *os.Process {
			c.verb = "run"
			cmd := c.command()
			if err := cmd.Start(); err != nil {
				c.t.Fatal(err)
			}
			c.t.Cleanup(func() { _ = cmd.Wait() })
			return cmd.Process
		},
	}
	for what, begin := range shims {
		for _, runtime := range []string{n.runc, n.crun} {
			t.Run(what+" with "+filepath.Base(runtime), func(t *testing.T) {
				c := n.newCall(t, runtime)
				n.edit(c.bundle, func(s *specs.Spec) { s.Process.Args = []string{"/probe", "sleep"} })
				n.remove(runtime, c.id)
				shim := begin(c)
				before := len(a.state(t, c.id, v1alpha1.StateRunning))
				// crun records a container only when its process has begun: killed before, it could not be asked to kill that.
				if err := poll(limit, func() error { return n.recorded(c.id) }); err != nil {
					t.Fatal(err)
				}
				if err := shim.Kill(); err != nil {
					t.Fatal(err)
				}
				a.settled(n)
				if told := a.history(c.id); len(told) != before {
					t.Errorf("told as %s when its shim died", states(told))
				}
				killed("KILL")(c, a)
				e := end{code: 137, signal: 9, reason: v1alpha1.StopError}
				if err := e.compare(a.state(t, c.id, v1alpha1.StateStopped)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// recorded is an error until the container's runtime has written its state.
func (n *node) recorded(id string) error {
	files, _ := filepath.Glob(filepath.Join(n.stateRoot, id, "stat*")) // state.json, or crun's status
	if len(files) == 0 {
		return fmt.Errorf("nothing is recorded of %s", id)
	}
	return nil
}
