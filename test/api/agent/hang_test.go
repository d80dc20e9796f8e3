package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// TestTheConditionNamesThePathThatHangs: a file system does not answer, under a bundle or under the checkpoint. The agent's
// object says which, until it answers.
func TestTheConditionNamesThePathThatHangs(t *testing.T) {
	for _, place := range []struct {
		what, path string                                     // path is below the node's directory
		hang       func(n *node, a *agent, dir string) func() // returns what takes it away
	}{
		{"a bundle", "ill/bundle/config.json", func(n *node, _ *agent, dir string) func() {
			theirs := machine.InMounts(n.t)
			release := machine.Hang(n.t, theirs, dir)
			create := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", theirs), "sh", "-c", `"$0" "$@"; exit 0`,
				n.runc, "--root", n.stateRoot, "create", "--bundle", dir+"/bundle", n.newID())
			if err := create.Start(); err != nil {
				n.t.Fatal(err)
			}
			n.t.Cleanup(func() { _ = create.Wait() }) // after the release
			return release
		}},
		{"the checkpoint", "checkpoint/containers.json", func(n *node, a *agent, dir string) func() {
			release := machine.Hang(n.t, a.cmd.Process.Pid, dir)
			n.begin(nil) // there is something to write
			return release
		}},
	} {
		t.Run(place.what, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, plane)
			path := filepath.Join(n.dir, place.path)
			ill := filepath.Join(n.dir, strings.Split(place.path, "/")[0])
			if err := os.MkdirAll(ill, 0o755); err != nil {
				t.Fatal(err)
			}
			a := n.startAgent()
			n.eventuallyReady(metav1.ConditionTrue, "")

			release := place.hang(n, a, ill)
			defer release()
			ready := n.eventuallyReady(metav1.ConditionFalse, v1alpha1.ReasonFileSystemHangs)
			if !strings.Contains(ready.Message, path) {
				t.Errorf("%s is not named: %s", path, ready.Message)
			}

			release()
			n.eventuallyReady(metav1.ConditionTrue, "")
		})
	}
}

// TestHookedIsFalseUntilThereIsARuntime: containers are listed meanwhile, and the condition says so.
func TestHookedIsFalseUntilThereIsARuntime(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	installed := n.runc
	n.runc = n.otherRuntime()
	n.startAgent()
	n.eventually(v1alpha1.ConditionHooked, metav1.ConditionFalse, v1alpha1.ReasonNoRuntime)

	if err := machine.Copy(installed, n.runc); err != nil {
		t.Fatal(err)
	}
	n.eventually(v1alpha1.ConditionHooked, metav1.ConditionTrue, v1alpha1.ReasonHeld)
}

func (n *node) eventuallyReady(status metav1.ConditionStatus, reason string) (ready *metav1.Condition) {
	n.t.Helper()
	return n.eventually(v1alpha1.ConditionReady, status, reason)
}

// eventually waits until the node's agent says so of a condition. An empty reason is any.
func (n *node) eventually(condition string, status metav1.ConditionStatus, reason string) (found *metav1.Condition) {
	n.t.Helper()
	c, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, time.Minute, fmt.Sprintf("%s is %s %s", condition, status, reason), func() error {
		object, err := n.agentObject(c)
		if err != nil {
			return err
		}
		found = meta.FindStatusCondition(object.Status.Conditions, condition)
		if found == nil || found.Status != status || reason != "" && found.Reason != reason {
			return fmt.Errorf("it is %+v", found)
		}
		return nil
	})
	return found
}
