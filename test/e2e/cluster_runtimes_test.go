package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// listScript prints what each runtime says of its containers, a JSON list for each of its state directories. crun keeps a file
// `status` where runc has `state.json`.
const listScript = `
for root in /run/containerd/runc/* /run/runc /run/crun; do
  [ -d "$root" ] || continue
  runtime=runc
  ! ls "$root"/*/status >/dev/null 2>&1 || runtime=crun
  "$runtime" --root "$root" list --format json
done`

// runtimesSay asks the runtimes of one of our nodes, and containerd, which remembers containers that stopped.
func runtimesSay(ctx context.Context, node string) (map[string]container, error) {
	all := map[string]container{}
	out, err := cluster(ctx, "exec", node, "sh", "-c", listScript)
	if err != nil {
		return nil, err
	}
	for lists := json.NewDecoder(strings.NewReader(out)); lists.More(); {
		var listed []struct {
			ID, Status string
			PID        int32
		}
		if err := lists.Decode(&listed); err != nil {
			return nil, fmt.Errorf("read what runtimes say on %s: %w: %s", node, err, out)
		}
		for _, c := range listed {
			switch c.Status {
			case "stopped": // and not deleted: nothing says how it ended
			case "created":
				all[c.ID] = container{state: v1alpha1.StateCreated, pid: c.PID}
			default:
				all[c.ID] = container{state: v1alpha1.StateRunning, pid: c.PID}
			}
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

// containerdSays tells which of all are pods' sandboxes, and adds the containers of pods that stopped.
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
			c.sandbox = true
			all[s.Id] = c
		}
	}
	containers, err := service.ListContainers(ctx, &cri.ListContainersRequest{
		Filter: &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_EXITED}}})
	if err != nil {
		return fmt.Errorf("list containers on %s: %w", node, err)
	}
	for _, c := range containers.Containers {
		answer, err := service.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.Id})
		if err != nil {
			return fmt.Errorf("read the status of %s on %s: %w", c.Id, node, err)
		}
		all[c.Id] = container{state: v1alpha1.StateStopped, exitCode: answer.Status.ExitCode,
			finished: time.Unix(0, answer.Status.FinishedAt), pod: types.UID(c.Labels["io.kubernetes.pod.uid"])}
	}
	return nil
}
