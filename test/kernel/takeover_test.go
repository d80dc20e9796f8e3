package kernel

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// TestAPIDThatIsTakenOverIsAnotherProcess: the pid of a container's init becomes that of a stranger, of a runtime, and,
// where nobody saw the end, of a stranger that a runtime's state still names. A process is its pid and its start.
func TestAPIDThatIsTakenOverIsAnotherProcess(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	for _, runtime := range []string{n.runc, n.crun} {
		t.Run("by a stranger, "+filepath.Base(runtime), func(t *testing.T) {
			c, pid := n.ended(t, a, runtime)
			told := len(a.history(c.id))
			mustEnd(t, n, n.exactly(runtime, n.launcher(t, []string{n.unmarked, "exit", "77"}), "pid", pid), 77)
			a.settled(n)
			if got := a.history(c.id); len(got) != told {
				t.Errorf("told as %s", states(got))
			}
		})
		t.Run("by a runtime, "+filepath.Base(runtime), func(t *testing.T) {
			c, pid := n.ended(t, a, runtime)
			told := len(a.history(c.id))
			next := n.newCall(t, runtime)
			next.verb = "run"
			next.instead = []string{n.launcher(t, next.argv()), "pid", pid}
			next.checkMade(a)
			if got := a.history(c.id); len(got) != told {
				t.Errorf("told as %s", states(got))
			}
		})
	}
	t.Run("by a stranger, before the agent", func(t *testing.T) {
		c, pid := n.ended(t, a, n.runc)
		stranger := n.exactly(n.runc, n.launcher(t, []string{n.unmarked, "sleep"}), "pid", pid)
		if err := stranger.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			mustEnd(t, n, n.exactly(n.runc, "kill", "-TERM", pid), 0)
			_ = stranger.Wait()
		})
		taken := "/proc/" + pid + "/exe"
		if err := poll(limit, func() error {
			if exe, err := filepath.EvalSymlinks(taken); err != nil || exe != n.unmarked {
				return fmt.Errorf("pid %s executes %q: %w", pid, exe, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		late := n.startAgent("--deadline", "1s")
		told := late.state(t, c.id, v1alpha1.StateStopped)
		if got := last(told).Status; len(told) != 1 || got.Reason != v1alpha1.StopExitUnknown || got.ExitCode != nil {
			t.Errorf("told as %s: %+v", states(told), got)
		}
	})
}

// ended is a container that was run and is not deleted, and the pid that its init had: one that nobody waits for any more.
func (n *node) ended(t *testing.T, a *agent, runtime string) (c *call, pid string) {
	t.Helper()
	c = n.newCall(t, runtime)
	c.verb, c.options = "run", append(c.options, "--detach")
	c.checkMade(a)
	return c, strconv.Itoa(int(last(a.history(c.id)).Status.PID))
}
