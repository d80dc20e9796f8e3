package kernel

import (
	"path/filepath"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// conmonForms are the ways to tell conmon what it is to watch.
var conmonForms = map[string]func(c *call, pidFile, log string) []string{
	"short options": func(c *call, pidFile, log string) []string {
		return []string{"-c", c.id, "-u", c.id, "-n", "name-of-" + c.id, "-r", c.runtime, "-b", c.bundle, "-p", pidFile, "-l", log}
	},
	"long options": func(c *call, pidFile, log string) []string {
		return []string{"--cid", c.id, "--cuuid", c.id, "--name", "name-of-" + c.id, "--runtime", c.runtime, "--bundle", c.bundle,
			"--container-pidfile", pidFile, "--log-path", log}
	},
	"long options with =": func(c *call, pidFile, log string) []string {
		return []string{"--cid=" + c.id, "--cuuid=" + c.id, "--name=name-of-" + c.id, "--runtime=" + c.runtime,
			"--bundle=" + c.bundle, "--container-pidfile=" + pidFile, "--log-path=" + log}
	},
}

func TestEveryFormOfConmonNamesItsContainer(t *testing.T) {
	t.Parallel()
	n := newFormsNode(t)
	a := n.startAgent("--deadline", "1s")
	for what, options := range conmonForms {
		for _, runtime := range []string{n.runc, n.crun} {
			t.Run(what+" with "+filepath.Base(runtime), func(t *testing.T) {
				c := n.newCall(t, runtime)
				n.remove(runtime, c.id)
				argv := append([]string{n.conmon}, options(c, filepath.Join(c.bundle, "pid"), "k8s-file:"+filepath.Join(c.bundle, "log"))...)
				argv = append(argv, "--exit-dir", c.bundle, "--socket-dir-path", c.bundle, "--runtime-arg", "--root", "--runtime-arg", c.root)
				mustEnd(t, n, n.exactly(runtime, argv...), 0)
				a.state(t, c.id, v1alpha1.StateCreated)
				mustEnd(t, n, c.next("start", c.id), 0)
				told := a.state(t, c.id, v1alpha1.StateStopped)
				c.checkEnded(told)
				for _, one := range told {
					if want := "name-of-" + c.id; one.Spec.Name != want {
						t.Errorf("told as %s with the name %q, want %q", one.Status.State, one.Spec.Name, want)
					}
				}
			})
		}
	}
}
