package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// TestARestoreIsSeen: a container that is checkpointed and restored is another instance, which executes nothing and runs;
// a restore from an image that is none is a failed create. The latter needs no criu that works.
func TestARestoreIsSeen(t *testing.T) {
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
		if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: restore from a real checkpoint, for criu does not run here: %v: %s", err, lastOf(string(out)))
		}
		id, bundle := n.bundle([]string{"sleep"}, nil)
		n.remove(n.runc, id)
		n.must(n.runc, "run", "--detach", "--bundle", bundle, id)
		a.state(t, id, v1alpha1.StateRunning)
		n.must(n.runc, "checkpoint", "--image-path", images, "--work-path", images, id)
		first := last(a.state(t, id, v1alpha1.StateStopped))
		if _, err := os.Stat(filepath.Join(images, "inventory.img")); err != nil {
			t.Fatal(err)
		}
		n.must(n.runc, "restore", "--detach", "--bundle", bundle, "--image-path", images, "--work-path", images, id)
		if err := poll(limit, func() error {
			if now := last(a.history(id)); now.Name == first.Name || now.Status.State != v1alpha1.StateRunning {
				return fmt.Errorf("told as %s", states(a.history(id)))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		n.must(n.runc, "kill", id, "KILL")
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
