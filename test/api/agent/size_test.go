package agent

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// What an object of a typical container may take in etcd, in bytes: as the agent writes it, and without managedFields,
// which the API server adds. The paths of a test are 100 longer than usual ones.
const (
	maxStored = 3350
	maxObject = 2400
)

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
	s.Linux.CgroupsPath = "/" + filepath.Base(runDir) + "/" + // one directory, which runc removes
		strings.ReplaceAll(s.Linux.CgroupsPath, "/", ":")
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

	stored, object := n.sizes(c)
	t.Logf("of a typical container %d bytes are stored, %d without managedFields", stored, object)
	if stored > maxStored || object > maxObject {
		t.Errorf("more than %d and %d", maxStored, maxObject)
	}
	n.matchAsControllerDoes(c)
	stored, object = n.sizes(c)
	t.Logf("with what the controller adds it is %d, and %d", stored, object)
}

// sizes are how many bytes etcd has of an object, with and without managedFields.
func (n *node) sizes(c *v1alpha1.NodeContainer) (with, without int) {
	n.t.Helper()
	stored, err := n.plane.Stored(n.t.Context(), "/registry/containerhook.io/nodecontainers/"+c.Name)
	if err != nil {
		n.t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(stored), &object); err != nil {
		n.t.Fatal(err)
	}
	delete(object["metadata"].(map[string]any), "managedFields")
	rest, err := json.Marshal(object)
	if err != nil {
		n.t.Fatal(err)
	}
	return len(stored), len(rest)
}

// matchAsControllerDoes adds the controller's conditions.
func (n *node) matchAsControllerDoes(c *v1alpha1.NodeContainer) {
	n.t.Helper()
	admin, err := administrator(n.plane)
	if err != nil {
		n.t.Fatal(err)
	}
	var conditions []*metav1apply.ConditionApplyConfiguration
	for kind, reason := range map[string]string{v1alpha1.ConditionPodMatched: v1alpha1.ReasonMatched, v1alpha1.ConditionSpecMatched: v1alpha1.ReasonMatched} {
		conditions = append(conditions, metav1apply.Condition().WithType(kind).WithStatus(metav1.ConditionTrue).WithReason(reason).
			WithMessage("").WithLastTransitionTime(metav1.Now()))
	}
	status := apply.NodeContainer(c.Name).WithStatus(apply.NodeContainerStatus().WithConditions(conditions...))
	if err := admin.Status().Apply(n.t.Context(), status, client.FieldOwner("containerhook-controller")); err != nil {
		n.t.Fatal(err)
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
