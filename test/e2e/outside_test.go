package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// engines start containers past the kubelet, in lines of shell that run on a node. $id is the container's name, $rootfs a
// root file system with busybox.
var engines = map[string]struct {
	prepare string // before
	start   string // prints the container's ID
	kill    string
	end     string // undoes what prepare did
}{
	"ctr": {
		start: `ctr --namespace outside run --detach --rootfs "$rootfs" "$id" /bin/sleep 100000 && echo "$id"`,
		kill: `ctr --namespace outside task kill --signal KILL "$id" && until ctr --namespace outside task rm "$id"; do sleep 0.1; done
			ctr --namespace outside container rm "$id"`,
	},
	"runc": {
		start: runcSpec + `runc run --detach "$id" </dev/null >/dev/null 2>&1 && echo "$id"`,
		kill:  runcKill,
	},
	"podman": {
		start: podman + `run --detach --name "$id" --network none --rootfs "$rootfs" sleep 100000`,
		kill:  podman + `kill --signal KILL "$id" && ` + podman + `rm --force "$id"`,
	},
	"docker": {
		// Beside the node's containerd. The images' file system is the one that needs nothing of the kernel.
		prepare: `setsid dockerd --host unix:///run/docker.sock --data-root /var/lib/e2e-docker --containerd /run/containerd/containerd.sock \
				--iptables=false --bridge=none --storage-driver=vfs --exec-opt native.cgroupdriver=cgroupfs --oom-score-adjust 0 \
				</dev/null >/run/dockerd.log 2>&1 &
			timeout 30 sh -c 'until ` + docker + `version; do sleep 0.1; done' >/dev/null 2>&1 || { tail /run/dockerd.log >&2; exit 1; }`,
		start: `tar -C "$rootfs" -c . | ` + docker + `import - "$id" >/dev/null && ` +
			docker + `run --detach --network none --name "$id" "$id" sleep 100000`,
		kill: docker + `kill "$id" && ` + docker + `rm "$id" && ` + docker + `rmi "$id"`,
		end:  `pid=$(cat /run/docker.pid) && kill "$pid" && while kill -0 "$pid"; do sleep 0.1; done 2>/dev/null; rm -rf /var/lib/e2e-docker`,
	},
}

const (
	podman   = `podman --cgroup-manager cgroupfs ` // the node has no systemd
	docker   = `docker --host unix:///run/docker.sock `
	runcSpec = `mkdir -p "$rootfs.bundle" && cd "$rootfs.bundle" && runc spec &&
		sed -i -e "s|\"path\": \"rootfs\"|\"path\": \"$rootfs\"|" -e 's|"terminal": true|"terminal": false|' \
			-e 's|^\(\t*\)"sh"|\1"sleep", "100000"|' config.json && `
	runcKill = `runc kill "$id" KILL && until runc delete "$id"; do sleep 0.1; done; rm -rf "$rootfs.bundle"`
)

func TestAContainerPastTheKubeletHasAnObjectOfItsNodeAndOfNoOther(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	node := someNodes(t, 2)[0] // one of two: the other one must not have it
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shell, id := shellOn(t, node, name)
			if engine.end != "" {
				t.Cleanup(func() { shell(context.WithoutCancel(t.Context()), engine.end) })
			}
			if engine.prepare != "" {
				shell(t.Context(), engine.prepare)
			}
			var once sync.Once
			kill := func(ctx context.Context) { once.Do(func() { shell(ctx, engine.kill) }) }
			t.Cleanup(func() { kill(context.WithoutCancel(t.Context())) })
			if out := strings.TrimSpace(shell(t.Context(), engine.start)); out != "" {
				id = out // docker's and podman's own
			}
			if t.Failed() {
				t.FailNow()
			}
			eventually(t, matchedWithin, func(ctx context.Context) error { return isOutside(ctx, id, node, v1alpha1.StateRunning, 0) })
			agree(t, node)
			kill(t.Context())
			eventually(t, matchedWithin, func(ctx context.Context) error { return isOutside(ctx, id, node, v1alpha1.StateStopped, 137) })
		})
	}
}

// shellOn makes a function that runs lines of shell on a node, for engines: with a root file system of its own, and an ID
// that nobody had before.
func shellOn(t *testing.T, node, name string) (shell func(ctx context.Context, line string) string, id string) {
	t.Helper()
	id = namespace + "-" + name
	vars := fmt.Sprintf("id=%s; rootfs=%s\n", id, rootfs(t))
	return func(ctx context.Context, line string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		out, err := cluster(ctx, "exec", node, "sh", "-c", vars+line)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return out
	}, id
}

// isOutside says what is not so of a container that belongs to no pod.
func isOutside(ctx context.Context, id, node string, state v1alpha1.ContainerState, exitCode int32) error {
	o, err := objectOf(ctx, id) // in the whole cluster there is one
	if err != nil {
		return err
	}
	switch matched := conditionOf(o, v1alpha1.ConditionPodMatched); {
	case o.Spec.NodeName != node:
		return fmt.Errorf("it is on %s, not on %s", o.Spec.NodeName, node)
	case o.Status.State != state || state == v1alpha1.StateStopped && (o.Status.ExitCode == nil || *o.Status.ExitCode != exitCode):
		return fmt.Errorf("it is %s, exit code %v", o.Status.State, o.Status.ExitCode)
	case matched != "False "+v1alpha1.ReasonNotKubernetes:
		return fmt.Errorf("PodMatched is %s", matched)
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
