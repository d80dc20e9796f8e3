package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// failures are creates that cannot succeed.
var failures = []struct {
	what  string
	spoil func(n *node, bundle string)
	facts bool // what config.json says is told all the same
}{
	{what: "a mount whose source is missing", facts: true, spoil: func(n *node, bundle string) {
		n.edit(bundle, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/not-there", Type: "bind", Source: "/not/there", Options: []string{"bind"}})
		})
	}},
	{what: "a missing root file system", facts: true, spoil: func(n *node, bundle string) {
		n.edit(bundle, func(s *specs.Spec) { s.Root.Path = filepath.Join(bundle, "not-there") })
	}},
	{what: "a command that is not there", facts: true, spoil: func(n *node, bundle string) {
		n.edit(bundle, func(s *specs.Spec) { s.Process.Args = []string{"/not-there"} })
	}},
	{what: "an OCI hook that fails", facts: true, spoil: func(n *node, bundle string) {
		n.edit(bundle, func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}} })
	}},
	{what: "a config.json that is no JSON", spoil: func(n *node, bundle string) {
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"ociVersion": "1.0.2", "process": {`), 0o644); err != nil {
			n.t.Error(err)
		}
	}},
	{what: "no config.json", spoil: func(n *node, bundle string) {
		if err := os.Remove(filepath.Join(bundle, "config.json")); err != nil {
			n.t.Error(err)
		}
	}},
	{what: "no bundle", spoil: func(n *node, bundle string) {
		if err := os.RemoveAll(bundle); err != nil {
			n.t.Error(err)
		}
	}},
}

func TestAFailedCreateIsToldWithTheExitCodeOfItsRuntime(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	count := 0
	for _, f := range failures {
		for _, runtime := range []string{n.runc, n.crun} {
			for _, verb := range []string{"create", "run"} {
				count++
				t.Run(fmt.Sprintf("%s, %s %s", f.what, filepath.Base(runtime), verb), func(t *testing.T) {
					c := n.newCall(t, runtime)
					c.verb = verb
					n.remove(runtime, c.id)
					f.spoil(n, c.bundle)
					code, out, err := n.end(c.command())
					if err != nil || code <= 0 {
						t.Fatalf("%s ended with %d: %v %s", verb, code, err, out)
					}
					told := a.state(t, c.id, v1alpha1.StateStopped)
					checkFailed(t, told, code)
					if end := last(told); end.Spec.Bundle != c.bundle || end.Spec.Runtime.Name != c.name ||
						(end.Spec.Entrypoint != "") != f.facts {
						t.Errorf("told %+v", end.Spec)
					}
				})
			}
		}
	}
	t.Logf("%d failed creates, each told once with the runtime's exit code", count)
}

// checkFailed checks that all that was told of a container is one create that failed with code.
func checkFailed(t *testing.T, told []v1alpha1.NodeContainer, code int) {
	t.Helper()
	end := last(told)
	if end.Status.Reason != v1alpha1.StopCreateFailed || exitOf(end) != strconv.Itoa(code) {
		t.Errorf("%s with exit code %s, want %s with %d", end.Status.Reason, exitOf(end), v1alpha1.StopCreateFailed, code)
	}
	if got := transitions(told); got != "Stopped" && got != "Creating → Stopped" {
		t.Errorf("told as %s", got)
	}
	if entered(told, v1alpha1.StateStopped) != 1 || told[0].Name != end.Name || seenBy(&end) != v1alpha1.ReasonHook {
		t.Errorf("told as %s, %s and %s, seen by %s", states(told), told[0].Name, end.Name, seenBy(&end))
	}
}

// TestARuntimeThatIsKilledHalfWayHasFailed: while it waits for one of the container's OCI hooks, its init made.
func TestARuntimeThatIsKilledHalfWayHasFailed(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	for _, runtime := range []string{n.runc, n.crun} {
		for _, verb := range []string{"create", "run"} {
			t.Run(filepath.Base(runtime)+" "+verb, func(t *testing.T) {
				c := n.newCall(t, runtime)
				c.verb = verb
				t.Cleanup(func() { removeCgroup(t, c.id) }) // nobody else knows of the container
				pidFile := filepath.Join(c.bundle, "hook")
				n.edit(c.bundle, func(s *specs.Spec) {
					s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh",
						Args: []string{"sh", "-c", "echo $$ >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; exec sleep 30"}}}}
				})
				cmd := c.command()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				hook := 0
				err := poll(limit, func() error {
					raw, err := os.ReadFile(pidFile)
					if err == nil {
						hook, err = strconv.Atoi(strings.TrimSpace(string(raw)))
					}
					return err
				})
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if err != nil {
					t.Fatalf("the hook did not run: %v", err)
				}
				if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
					t.Fatalf("the runtime had ended before it was killed: %v", cmd.ProcessState)
				}
				if err := syscall.Kill(hook, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
				checkFailed(t, a.state(t, c.id, v1alpha1.StateStopped), 128+int(syscall.SIGKILL))
			})
		}
	}
}

// removeCgroup removes what a runtime made for a container and did not live to remove.
func removeCgroup(t *testing.T, id string) {
	t.Helper()
	if err := poll(limit, func() error { // until its last process is gone
		one, _ := filepath.Glob("/sys/fs/cgroup/" + testCgroup() + "/" + id)
		more, _ := filepath.Glob("/sys/fs/cgroup/*/" + testCgroup() + "/" + id)
		for _, dir := range append(one, more...) {
			if err := os.Remove(dir); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
