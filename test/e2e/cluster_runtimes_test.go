package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// listScript prints what each runtime says of its containers, a JSON list for each of its state directories. crun keeps a file
// `status` where runc has `state.json`.
const listScript = `
for root in /run/containerd/runc/* /run/runc /run/crun /run/docker/runtime-runc/*; do
  [ -d "$root" ] || continue
  runtime=runc
  ! ls "$root"/*/status >/dev/null 2>&1 || runtime=crun
  "$runtime" --root "$root" list --format json
done`

// runtimesSay asks the runtimes of one of our nodes, the kernel for their processes, and containerd, which remembers
// containers that stopped.
func runtimesSay(ctx context.Context, node string) (map[string]container, error) {
	first, err := cluster(ctx, "pid", node)
	if err != nil {
		return nil, err
	}
	out, err := cluster(ctx, "exec", node, "sh", "-c", listScript)
	if err != nil {
		return nil, err
	}

	all := map[string]container{}
	for lists := json.NewDecoder(strings.NewReader(out)); lists.More(); {
		var listed []struct {
			ID, Status  string
			PID         int32
			Annotations map[string]string
		}
		if err := lists.Decode(&listed); err != nil {
			return nil, fmt.Errorf("read what runtimes say on %s: %w: %s", node, err, out)
		}
		for _, c := range listed {
			said := container{state: v1alpha1.StateRunning, pid: c.PID}
			switch c.Status {
			case "stopped":
				continue // and not deleted: nothing says how it ended
			case "created":
				said.state = v1alpha1.StateCreated
			}
			// Its engine may say more of it later: see containerdSays.
			if c.Annotations["io.kubernetes.cri.container-type"] == "" {
				said.podMatched = "False " + v1alpha1.ReasonNotKubernetes
			}
			if err := kernelSays(strings.TrimSpace(first), &said); err != nil {
				return nil, fmt.Errorf("look at %s on %s: %w", c.ID, node, err)
			}
			all[c.ID] = said
		}
	}
	return all, containerdSays(ctx, node, all)
}

// containerd connects to a node's, through the root of the node's first process.
func containerd(ctx context.Context, node string) (service cri.RuntimeServiceClient, done func(), err error) {
	pid, err := cluster(ctx, "pid", node)
	if err != nil {
		return nil, nil, err
	}
	connection, err := grpc.NewClient("unix:///proc/"+strings.TrimSpace(pid)+"/root/run/containerd/containerd.sock",
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to containerd on %s: %w", node, err)
	}
	return cri.NewRuntimeServiceClient(connection), func() { connection.Close() }, nil
}

// containerdSays adds whose the containers of pods are, and those that stopped.
func containerdSays(ctx context.Context, node string, all map[string]container) error {
	service, done, err := containerd(ctx, node)
	if err != nil {
		return err
	}
	defer done()
	sandboxes, err := service.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list sandboxes on %s: %w", node, err)
	}
	for _, s := range sandboxes.Items {
		if c, ok := all[s.Id]; ok {
			c.sandbox, c.podMatched = true, ""
			c.pod = v1alpha1.ContainerPod{Namespace: s.Metadata.Namespace, Name: s.Metadata.Name, UID: s.Metadata.Uid}
			all[s.Id] = c
		}
	}

	containers, err := service.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return fmt.Errorf("list containers on %s: %w", node, err)
	}
	for _, listed := range containers.Containers {
		c, ok := all[listed.Id]
		if listed.State == cri.ContainerState_CONTAINER_EXITED {
			answer, err := service.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: listed.Id})
			if err != nil {
				return fmt.Errorf("read the status of %s on %s: %w", listed.Id, node, err)
			}
			c = container{state: v1alpha1.StateStopped, exitCode: answer.Status.ExitCode, finished: time.Unix(0, answer.Status.FinishedAt)}
		} else if !ok {
			continue // containerd prepares it
		}
		c.podMatched = "" // which its pod's status decides
		c.pod = v1alpha1.ContainerPod{Namespace: listed.Labels["io.kubernetes.pod.namespace"], Name: listed.Labels["io.kubernetes.pod.name"],
			UID: listed.Labels["io.kubernetes.pod.uid"], Container: listed.Labels["io.kubernetes.container.name"]}
		all[listed.Id] = c
	}
	return nil
}

// initialUser is the inode number of the initial user namespace, on each kernel: PROC_USER_INIT_INO of
// include/linux/proc_ns.h. Objects leave it out.
const initialUser = 0xEFFFFFFD

// kernelSays adds the namespaces and the cgroup of a container's init process, read from the machine through the root of
// its node's first process. A process that is gone meanwhile has none.
func kernelSays(first string, c *container) error {
	dir := fmt.Sprintf("/proc/%s/root/proc/%d", first, c.pid)
	ns := &c.namespaces
	for name, number := range map[string]*int64{
		"cgroup": &ns.Cgroup, "ipc": &ns.IPC, "mnt": &ns.Mount, "net": &ns.Network, "pid": &ns.PID, "user": &ns.User, "uts": &ns.UTS,
	} {
		link, err := os.Readlink(dir + "/ns/" + name)
		if err != nil {
			c.namespaces = v1alpha1.ContainerNamespaces{}
			return ignoreGone(err)
		}
		if _, err := fmt.Sscanf(link, name+":[%d]", number); err != nil {
			return fmt.Errorf("read %q: %w", link, err)
		}
	}
	if ns.User == initialUser {
		ns.User = 0
	}

	lines, err := os.ReadFile(dir + "/cgroup") // as this process, on the machine, sees the paths
	if err != nil {
		return ignoreGone(err)
	}
	for line := range strings.Lines(string(lines)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok { // cgroups(7): the one of version 2
			info, err := os.Stat(filepath.Join(unifiedHierarchy(), path))
			if err != nil {
				return ignoreGone(err)
			}
			c.cgroup = int64(info.Sys().(*syscall.Stat_t).Ino)
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// unifiedHierarchy is where the machine has its cgroups of version 2.
func unifiedHierarchy() string {
	const beside = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	return "/sys/fs/cgroup"
}
