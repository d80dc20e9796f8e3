package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// node is a node of a cluster, for the time of a test: a Node, a token for its agent, and a runc of its own.
type node struct {
	t                     *testing.T
	plane                 *controlplane.ControlPlane
	name                  string
	proxy                 *proxy
	dir, runc, rootfs     string
	stateRoot, checkpoint string
	kubeconfig, direct    string // paths of kubeconfigs, through the proxy and past it
}

// made counts nodes and containers, for their names.
var made atomic.Int64

func newNode(t *testing.T, plane *controlplane.ControlPlane) *node {
	t.Helper()
	dir, err := os.MkdirTemp(runDir, "node-")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, plane: plane, name: fmt.Sprintf("node-%d", made.Add(1)), dir: dir, runc: filepath.Join(dir, "bin", "runc"),
		rootfs: filepath.Join(dir, "rootfs"), stateRoot: filepath.Join(dir, "state"), checkpoint: filepath.Join(dir, "checkpoint"),
		kubeconfig: filepath.Join(dir, "kubeconfig"), direct: filepath.Join(dir, "direct.kubeconfig")}
	t.Cleanup(n.remove)
	if err := machine.CopyInstalled("runc", n.runc); err != nil {
		t.Fatal(err)
	}
	if err := machine.Copy(probeBinary, filepath.Join(n.rootfs, "probe")); err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Node(t.Context(), n.name); err != nil { // before the token: that has its UID
		t.Fatal(err)
	}
	config, err := plane.PodClient(t.Context(), "containerhook-system", "containerhook-agent", n.name)
	if err != nil {
		t.Fatal(err)
	}
	n.proxy = newProxy(t, config)
	through := rest.CopyConfig(config)
	through.Host, through.TLSClientConfig = n.proxy.server.URL, n.proxy.tls()
	for path, config := range map[string]*rest.Config{n.kubeconfig: through, n.direct: config} {
		if err := controlplane.WriteKubeconfig(path, config); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// remove ends every container of the node.
func (n *node) remove() {
	entries, _ := os.ReadDir(n.stateRoot) // none, where none was made
	for _, e := range entries {
		if err := n.try("delete", "--force", e.Name()); err != nil {
			n.t.Error(err)
		}
	}
	os.RemoveAll(n.dir)
}

func (n *node) newID() string { return fmt.Sprintf("%s-%d", idPrefix(), made.Add(1)) }

// bundle makes a bundle of a container, light enough for many, that runs the probe with args. Edit, where it is not nil,
// changes its config.json. It is for every goroutine: without a bundle runc fails.
func (n *node) bundle(id string, edit func(*specs.Spec), args ...string) string {
	n.t.Helper()
	s, err := machine.Spec()
	if err != nil {
		n.t.Error(err)
		return ""
	}
	s.Root = &specs.Root{Path: n.rootfs, Readonly: true}
	s.Process.Terminal, s.Process.Args = false, append([]string{"/probe"}, args...)
	s.Hostname, s.Mounts = "", s.Mounts[:2] // proc and dev
	s.Linux.CgroupsPath = "/" + filepath.Base(runDir) + "/" + id
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Linux.Seccomp = nil, nil, nil
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}}
	if edit != nil {
		edit(s)
	}
	dir := filepath.Join(n.dir, "bundles", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Error(err)
	}
	if err := machine.WriteSpec(dir, s); err != nil {
		n.t.Error(err)
	}
	return dir
}

// ofPod has the config.json say what containerd's says of a container of a pod.
func ofPod(namespace, pod, container, image string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Annotations = map[string]string{
			"io.kubernetes.cri.container-type":    "container",
			"io.kubernetes.cri.container-name":    container,
			"io.kubernetes.cri.image-name":        image,
			"io.kubernetes.cri.sandbox-name":      pod,
			"io.kubernetes.cri.sandbox-namespace": namespace,
			"io.kubernetes.cri.sandbox-uid":       "5f0c3f0e-2c1b-4c57-9a8e-0d8a4b6e7c11",
		}
	}
}

// try runs runc to its end. What it prints goes to a file, for a container that outlives runc would keep a pipe open.
func (n *node) try(args ...string) error {
	out, err := os.CreateTemp(n.dir, "output-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command(n.runc, append([]string{"--root", n.stateRoot}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("runc %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}

// must is try, for what has to work.
func (n *node) must(args ...string) {
	n.t.Helper()
	if err := n.try(args...); err != nil {
		n.t.Fatal(err)
	}
}

// should is must, for other goroutines than the test's.
func (n *node) should(args ...string) {
	n.t.Helper()
	if err := n.try(args...); err != nil {
		n.t.Error(err)
	}
}

// runs has a container run to its end, and fails where it does not end with the code: runc ends with the container's.
func (n *node) runs(id string, code int) {
	n.t.Helper()
	err := n.try("run", "--bundle", n.bundle(id, nil, "exit", strconv.Itoa(code)), id)
	var exit *exec.ExitError
	switch {
	case err == nil && code == 0, errors.As(err, &exit) && exit.ExitCode() == code:
	default:
		n.t.Errorf("run %s, which exits with %d: %v", id, code, err)
	}
}

// begin creates and starts a container, as engines do, which sleeps until it is killed.
func (n *node) begin(edit func(*specs.Spec)) (id string) {
	n.t.Helper()
	id = n.newID()
	n.must("create", "--bundle", n.bundle(id, edit, "sleep"), id)
	n.must("start", id)
	return id
}

// end kills containers.
func (n *node) end(ids ...string) {
	n.t.Helper()
	for _, id := range ids {
		n.must("kill", id, "KILL")
	}
}
