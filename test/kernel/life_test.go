package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// typical is a bundle's config as an engine would make it, with all that is to be told.
func typical(s *specs.Spec) {
	s.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container",
		"io.kubernetes.cri.image-name":     "registry.example/probe:1",
		"io.kubernetes.cri.container-name": "main", "io.kubernetes.cri.sandbox-name": "web-0",
		"io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-uid": "0c2a2a53-7d6c-4b0f-9d47-000000000001"}
	s.Process.User = specs.User{UID: 1000, GID: 1000}
	s.Process.Env = append(s.Process.Env, "PASSWORD=canary")
}

func TestContainersAreToldFromCreatedToStopped(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.startAgent("--deadline", "1s")
	for _, runtime := range []string{n.runc, n.crun} {
		name := filepath.Base(runtime)
		t.Run(name+" run", func(t *testing.T) {
			id, bundle := n.bundle([]string{"exit", "3", "canary"}, typical)
			n.remove(runtime, id)
			code, out := n.do(runtime, "run", "--bundle", bundle, id)
			if code != 3 {
				t.Fatalf("%s run: exit code %d: %s", name, code, out)
			}
			checkLife(t, a, id, name, bundle, 3)
		})
		t.Run(name+" create and start", func(t *testing.T) {
			id, bundle := n.bundle([]string{"exit", "4", "canary"}, typical)
			n.remove(runtime, id)
			n.must(runtime, "create", "--bundle", bundle, id)
			created := a.wait(id, v1alpha1.StateCreated)
			checkPID(t, n, runtime, id, created)
			n.must(runtime, "start", id)
			checkLife(t, a, id, name, bundle, 4)
		})
	}
	for _, runtime := range []string{n.runc, n.crun} {
		name := filepath.Base(runtime)
		t.Run("conmon with "+name, func(t *testing.T) {
			id, bundle := n.bundle([]string{"exit", "5", "canary"}, typical)
			n.remove(runtime, id)
			if out, err := bounded(limit, n.underConmon(runtime, id, bundle, "the-name")); err != nil {
				t.Fatalf("conmon: %v\n%s", err, out)
			}
			a.wait(id, v1alpha1.StateCreated)
			n.must(runtime, "start", id)
			last := checkLife(t, a, id, name, bundle, 5)
			if last.Spec.Name != "the-name" {
				t.Errorf("name %q, want conmon's", last.Spec.Name)
			}
		})
	}
}

// underConmon prepares conmon as podman calls it. It ends when the container is created.
func (n *node) underConmon(runtime, id, bundle, name string) *exec.Cmd {
	cmd := n.command(runtime)
	// The runtime's own command line is conmon's to make; keep only what goes before it.
	before := cmd.Args[:len(cmd.Args)-len([]string{runtime, "--root", n.stateRoot})]
	argv := append(append([]string{}, before...), n.conmon, "-c", id, "-u", id, "-n", name, "-r", runtime, "-b", bundle,
		"-p", filepath.Join(bundle, "pidfile"), "-l", "k8s-file:"+filepath.Join(bundle, "log"),
		"--exit-dir", bundle, "--socket-dir-path", bundle, "--runtime-arg", "--root", "--runtime-arg", n.stateRoot)
	conmon := exec.Command(argv[0], argv[1:]...)
	return conmon
}

// checkLife waits for the end of a container and checks the whole of what was told.
func checkLife(t *testing.T, a *agent, id, runtime, bundle string, code int32) v1alpha1.NodeContainer {
	t.Helper()
	c := a.wait(id, v1alpha1.StateStopped)
	told := a.history(id)
	if got := transitions(told); got != "Creating → Created → Running → Stopped" {
		t.Errorf("told as %s", got)
	}
	for _, earlier := range told {
		if diff := cmp.Diff(earlier.Spec, c.Spec); diff != "" || earlier.Name != c.Name {
			t.Errorf("the spec changed after it was told (-before +after):\n%s", diff)
		}
	}
	want := v1alpha1.NodeContainer{Spec: v1alpha1.NodeContainerSpec{ContainerID: id, Bundle: bundle, Entrypoint: "/probe"}}
	got := v1alpha1.NodeContainer{Spec: v1alpha1.NodeContainerSpec{ContainerID: c.Spec.ContainerID, Bundle: c.Spec.Bundle,
		Entrypoint: c.Spec.Entrypoint}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	for what, ok := range map[string]bool{
		"exit code":    c.Status.ExitCode != nil && *c.Status.ExitCode == code,
		"runtime":      c.Spec.Runtime.Name == runtime,
		"image":        c.Spec.Image.Name == "registry.example/probe:1",
		"pod":          c.Spec.Pod.Namespace == "shop" && c.Spec.Pod.Name == "web-0" && c.Spec.Pod.Container == "main",
		"user":         c.Spec.User.UID != nil && *c.Spec.User.UID == 1000,
		"capabilities": len(c.Spec.Capabilities) == 3,
		"namespaces":   c.Status.Namespaces.PID != 0 && c.Status.Namespaces.Mount != 0 && c.Status.Namespaces.Network != 0,
		"no user ns":   c.Status.Namespaces.User == 0, // the initial one is left out
		"cgroup":       c.Status.CgroupID != 0,
		"pid":          c.Status.PID > 0,
		"times": c.Status.CreateTime != nil && c.Status.StartTime != nil && c.Status.FinishTime != nil &&
			!c.Status.StartTime.Before(c.Status.CreateTime) && !c.Status.FinishTime.Before(c.Status.StartTime),
		"no secret": !strings.Contains(fmt.Sprintf("%+v", told), "canary"),
	} {
		if !ok {
			t.Errorf("%s is not right in %+v %+v", what, c.Spec, c.Status)
		}
	}
	return c
}

// transitions names the states that were told, each once.
func transitions(told []v1alpha1.NodeContainer) string {
	var s []string
	for _, c := range told {
		if len(s) == 0 || s[len(s)-1] != string(c.Status.State) {
			s = append(s, string(c.Status.State))
		}
	}
	return strings.Join(s, " → ")
}

// checkPID compares the pid that was told with the one that the runtime names.
func checkPID(t *testing.T, n *node, runtime, id string, c v1alpha1.NodeContainer) {
	t.Helper()
	_, out := n.do(runtime, "state", id)
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), `"pid": `); ok {
			pid, err := strconv.Atoi(strings.TrimSuffix(value, ","))
			if err != nil || int64(pid) != int64(c.Status.PID) {
				t.Errorf("told pid %d, the runtime says %q", c.Status.PID, value)
			}
			return
		}
	}
	t.Errorf("%s state names no pid: %s", filepath.Base(runtime), out)
}

// TestTheFactsWereDeliveredBeforeTheFirstInstruction: the container's process looks, as its very first act, for a file
// that the handler makes when it is told of the facts. It exits with 0 only where it finds it.
func TestTheFactsWereDeliveredBeforeTheFirstInstruction(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	told := filepath.Join(n.rootfs, "told")
	n.startHandler("touch", told)
	for _, runtime := range []string{n.runc, n.crun} {
		for range machine.Volume(5, 20) {
			id, bundle := n.bundle(nil, nil)
			n.edit(bundle, func(s *specs.Spec) { s.Process.Args = []string{"/probe", "stat", "/told/" + id} })
			n.remove(runtime, id)
			n.must(runtime, "create", "--bundle", bundle, id)
			n.must(runtime, "start", id)
			if err := poll(10*time.Second, func() error {
				ended, err := filepath.Glob(filepath.Join(told, id+".exit.*"))
				if err == nil && len(ended) == 0 {
					err = os.ErrNotExist
				}
				return err
			}); err != nil {
				t.Fatalf("%s: the end of %s was not told", filepath.Base(runtime), id)
			}
			if _, err := os.Stat(filepath.Join(told, id+".exit.0")); err != nil {
				t.Errorf("%s: the process of %s ran before its facts were told", filepath.Base(runtime), id)
			}
		}
	}
}
