package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// TestARestoreIsSeen: a container that is checkpointed and restored is another instance, which executes nothing and runs;
// a restore from an image that is none is a failed create. The latter needs no criu that works.
func TestARestoreIsSeen(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.startAgent("--deadline", "1s")
	c := n.newCall(t, n.runc)
	n.remove(n.runc, c.id)
	images := filepath.Join(c.bundle, "checkpoint")
	c.make(images)
	c.verb, c.options = "restore", []string{"--detach", "--bundle", c.bundle, "--image-path", images, "--work-path", images}

	t.Run("from an empty image", func(t *testing.T) {
		code, out, err := n.end(c.command())
		if err != nil || code <= 0 {
			t.Fatalf("restore ended with %d: %v %s", code, err, out)
		}
		told := a.state(t, c.id, v1alpha1.StateStopped)
		checkFailed(t, told, code)
		if got := last(told).Spec.Bundle; got != c.bundle {
			t.Errorf("bundle %q, want %q", got, c.bundle)
		}
	})
	t.Run("from a checkpoint", func(t *testing.T) {
		if _, err := exec.LookPath("criu"); err != nil {
			t.Fatalf("this needs criu, which Debian has as a package: %v", err)
		}
		if out, err := bounded(limit, exec.Command("criu", "check")); err != nil {
			version, _ := bounded(limit, exec.Command("criu", "--version"))
			t.Skipf("needs a criu that works on this kernel; `criu check` of %s: %v: %s",
				strings.ReplaceAll(strings.TrimSpace(version), "\n", ", "), err, strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
		}
		id, bundle := n.bundle([]string{"sleep"}, nil)
		n.remove(n.runc, id)
		// criu finds no file that is removed: the container has the null device where others have a file of this test's.
		quietly := func(args ...string) *exec.Cmd {
			argv := append([]string{"-c", `exec "$0" "$@" >/dev/null 2>&1`}, n.command(n.runc, args...).Args...)
			return exec.Command("sh", argv...)
		}
		mustEnd(t, n, quietly("run", "--detach", "--bundle", bundle, id), 0)
		a.state(t, id, v1alpha1.StateRunning)
		t.Cleanup(func() {
			for _, name := range []string{"dump.log", "restore.log"} {
				if log, err := os.ReadFile(filepath.Join(images, name)); err == nil && t.Failed() {
					t.Logf("the end of criu's %s:\n%s", name, lastOf(string(log)))
				}
			}
		})
		mustEnd(t, n, n.command(n.runc, "checkpoint", "--image-path", images, "--work-path", images, id), 0)
		first := last(a.state(t, id, v1alpha1.StateStopped))
		if _, err := os.Stat(filepath.Join(images, "inventory.img")); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, n, quietly("restore", "--detach", "--bundle", bundle, "--image-path", images, "--work-path", images, id), 0)
		if err := poll(limit, func() error {
			if now := last(a.history(id)); now.Name == first.Name || now.Status.State != v1alpha1.StateRunning {
				return fmt.Errorf("told as %s", states(a.history(id)))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, n, n.command(n.runc, "kill", id, "KILL"), 0)
		if err := poll(limit, func() error {
			if end := last(a.history(id)); end.Status.State != v1alpha1.StateStopped || exitOf(end) != "137" {
				return fmt.Errorf("told as %s, exit code %s", states(a.history(id)), exitOf(end))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}
