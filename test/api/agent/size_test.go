package agent

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/test/machine"
)

// maxStored is how much an object of a typical container may take in etcd.
const maxStored = 2048

// TestAnObjectOfATypicalContainerIsSmall runs a config.json as containerd made it, in a mount namespace with the paths
// that it names, so that nothing but namespaces and the first argument had to be changed.
func TestAnObjectOfATypicalContainerIsSmall(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	n.startAgent()
	raw, err := os.ReadFile("../../../internal/hook/hooktest/testdata/config/containerd-cri-container.json")
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	id := filepath.Base(s.Linux.CgroupsPath)
	usual := s.Linux.CgroupsPath
	s.Linux.CgroupsPath = "/" + filepath.Base(runDir) + "/" + strings.ReplaceAll(usual, "/", ":") // one directory, which runc removes
	s.Root.Path, s.Process.Args = n.rootfs, []string{"/probe", "sleep", "1000"}
	for i := range s.Linux.Namespaces {
		s.Linux.Namespaces[i].Path = ""
	}
	bundle := filepath.Join(n.dir, "bundle")
	if err := os.Mkdir(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := machine.WriteSpec(bundle, &s); err != nil {
		t.Fatal(err)
	}
	n.createWithPaths(id, bundle, "/run/containerd/io.containerd.runtime.v2.task/k8s.io/"+id, s.Mounts)
	n.must("start", id)
	n.object(id, running)
	n.end(id)
	c := n.object(id, ended(137))

	stored, err := n.plane.Stored(t.Context(), "/registry/containerhook.io/nodecontainers/"+c.Name)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(stored), &object); err != nil {
		t.Fatal(err)
	}
	delete(object["metadata"].(map[string]any), "managedFields")
	without, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes are stored of a typical container, %d without managedFields", len(stored), len(without))
	if len(stored) > maxStored {
		t.Errorf("%d bytes are more than %d:\n%s", len(stored), maxStored, stored)
	}
}

// createWithPaths has runc create a container where what it mounts, and its bundle, are where containerd has them.
func (n *node) createWithPaths(id, bundle, at string, mounts []specs.Mount) {
	n.t.Helper()
	script := `mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; mkdir -p "$2"; cp -r "$1/." "$2"; shift 2
		while [ "$1" != -- ]; do case $1 in */hosts|*/hostname|*.conf|*/1f2e3d4c) mkdir -p "${1%/*}"; : >"$1";; *) mkdir -p "$1";; esac; shift; done
		shift; exec "$@"`
	args := []string{"--mount", "sh", "-ec", script, "sh", bundle, at}
	for _, m := range mounts {
		if m.Type == "bind" {
			args = append(args, m.Source)
		}
	}
	args = append(args, "--", n.runc, "--root", n.stateRoot, "create", "--bundle", at, id)
	out, err := os.Create(filepath.Join(n.dir, "created"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("unshare", args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		n.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, said)
	}
}
