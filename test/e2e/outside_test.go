package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// engines start containers past the kubelet, in lines of shell that run on a node. $id is the container's name, $rootfs a
// root file system with busybox.
var engines = map[string]struct {
	here, // fails, and says why, where the engine does not work on this machine
	start, // and prints the container's ID
	kill string
}{
	"ctr": {
		here:  "true",
		start: `ctr --namespace outside run --detach --rootfs "$rootfs" "$id" /bin/sleep 100000 && echo "$id"`,
		kill: `ctr --namespace outside task kill --signal KILL "$id" && until ctr --namespace outside task rm "$id"; do sleep 0.1; done
			ctr --namespace outside container rm "$id"`,
	},
	"runc": {
		here: "true",
		start: `mkdir -p "$rootfs.bundle" && cd "$rootfs.bundle" && runc spec &&
			sed -i -e "s|\"path\": \"rootfs\"|\"path\": \"$rootfs\"|" -e 's|"terminal": true|"terminal": false|' \
				-e 's|^\(\t*\)"sh"|\1"sleep", "100000"|' config.json &&
			runc run --detach "$id" </dev/null >/dev/null 2>&1 && echo "$id"`,
		kill: `runc kill "$id" KILL && until runc delete "$id"; do sleep 0.1; done; rm -rf "$rootfs.bundle"`,
	},
	"podman": {
		here:  podman + `run --rm ` + podmanFlags + ` true`,
		start: podman + `run --detach --name "$id" ` + podmanFlags + ` sleep 100000`,
		kill:  podman + `kill --signal KILL "$id" && ` + podman + `rm --force "$id"`,
	},
	"docker": {
		here:  "docker version >/dev/null",
		start: `tar -C "$rootfs" -c . | docker import - "$id" >/dev/null && docker run --detach --network none --name "$id" "$id" sleep 100000`,
		kill:  `docker kill "$id" && docker rm "$id" && docker rmi "$id"`,
	},
}

// podman keeps what it needs on the node's own disk. The node has no systemd.
const (
	podman      = `podman --cgroup-manager cgroupfs `
	podmanFlags = `--network none --rootfs "$rootfs"`
)

func TestAContainerPastTheKubeletIsToldOnItsNodeAndOnNoOther(t *testing.T) {
	needsOurNodes(t)
	node := someNodes(t, 2)[0] // one of two: it must not be told on the other
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			vars := fmt.Sprintf("id=%s-%s; rootfs=%s\n", namespace, name, rootfs(t)) // an ID that nobody had before
			shell := func(ctx context.Context, line string) (string, error) {
				return cluster(ctx, "exec", node, "sh", "-c", vars+line)
			}
			if _, err := shell(t.Context(), engine.here); err != nil {
				t.Skipf("%s does not work on this machine: %v", name, err)
			}
			var once sync.Once
			kill := func(ctx context.Context) {
				once.Do(func() {
					if _, err := shell(ctx, engine.kill); err != nil {
						t.Error(err)
					}
				})
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				kill(ctx)
			})
			out, err := shell(t.Context(), engine.start)
			if err != nil {
				t.Fatal(err)
			}
			id := strings.TrimSpace(out)
			eventually(t, 20*time.Second, func(ctx context.Context) error { return isOutside(ctx, id, node, v1alpha1.StateRunning, 0) })
			agree(t)
			kill(t.Context())
			eventually(t, 20*time.Second, func(ctx context.Context) error { return isOutside(ctx, id, node, v1alpha1.StateStopped, 137) })
		})
	}
}

// isOutside says what is not so of a container that belongs to no pod.
func isOutside(ctx context.Context, id, node string, state v1alpha1.ContainerState, exitCode int32) error {
	o, err := objectOf(ctx, id) // in the whole cluster there is one
	if err != nil {
		return err
	}
	matched := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionPodMatched)
	switch {
	case o.Spec.NodeName != node:
		return fmt.Errorf("it is on %s, not on %s", o.Spec.NodeName, node)
	case o.Status.State != state || state == v1alpha1.StateStopped && (o.Status.ExitCode == nil || *o.Status.ExitCode != exitCode):
		return fmt.Errorf("it is %s, exit code %v", o.Status.State, o.Status.ExitCode)
	case matched == nil || matched.Reason != v1alpha1.ReasonNotKubernetes:
		return fmt.Errorf("PodMatched is %+v", matched)
	}
	return nil
}

// rootfs makes a root file system with busybox, which nodes see at the same path.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := runShell(t.Context(), `mkdir "$0/bin" "$0/proc" "$0/dev" "$0/sys" && cp /bin/busybox "$0/bin/" && for name in sh sleep true; do
		ln -s busybox "$0/bin/$name"; done`, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runShell(ctx context.Context, line string, args ...string) error {
	out, err := exec.CommandContext(ctx, "sh", append([]string{"-c", line}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run sh: %w: %s", err, out)
	}
	return nil
}
