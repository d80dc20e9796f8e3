package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// startStaticPod has the kubelet start a pod without the API, and returns how long it took until its container runs. The pod
// goes at the end.
func startStaticPod(t *testing.T, node, name string) time.Duration {
	t.Helper()
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: specOf("", corev1.RestartPolicyAlways, "exec sleep 100000")}
	manifest, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	service, done, err := containerd(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	began, file := time.Now(), "/run/manifests/"+name+".json"
	onNode(t, node, "sh", "-c", `printf %s "$1" >"/run/$$" && mv "/run/$$" "$0"`, file, string(manifest))
	t.Cleanup(func() { onNodeAtEnd(t, node, "rm", "-f", file) })
	eventually(t, time.Minute, func(ctx context.Context) error {
		list, err := service.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
			State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
			LabelSelector: map[string]string{"io.kubernetes.pod.name": name + "-" + node}}})
		if err != nil {
			return fmt.Errorf("list containers on %s: %w", node, err)
		}
		if len(list.Containers) != 1 {
			return fmt.Errorf("static pod %s has %d running containers", name, len(list.Containers))
		}
		return nil
	})
	return time.Since(began)
}

func TestContainersStartAndEndWhileTheAPIServerIsAway(t *testing.T) {
	needsOurNodes(t)
	nodes := someNodes(t, 2)
	node := nodes[0]
	pod, _ := startPod(t, node)
	usual := usualStart(t, node)
	longest := execs(t, node)
	if _, err := cluster(t.Context(), "stop", "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	back := sync.OnceFunc(func() {
		if _, err := cluster(context.WithoutCancel(t.Context()), "start", "kube-apiserver"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(back)
	// Longer than the agent's and the kubelet's requests take to give up; in make test-long longer than any of their pauses.
	away := time.Duration(machine.Volume(30, 120)) * time.Second
	var ended []string
	var starts []time.Duration
	pace := time.NewTicker(10 * time.Second)
	defer pace.Stop()
	for began := time.Now(); time.Since(began) < away; <-pace.C {
		name := fmt.Sprintf("away-%d-%s", len(ended), strings.TrimPrefix(namespace, "containerhook-e2e-"))
		starts = append(starts, startStaticPod(t, node, name))
		onNode(t, node, "sh", "-c", `ctr --namespace k8s.io run --rm containerhook.test/busybox:1 "$0" sh -c "exit 7" || [ $? = 7 ]`, name)
		ended = append(ended, name)
	}
	compare(t, starts, usual, "the API server is away")
	longest()
	back()

	eventually(t, time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
	askAtOnce(t, nodes)
	for _, name := range nodes {
		after, _ := startPod(t, name)
		runningAgent(t, name, nil)
		id := idOf(after.Status.ContainerStatuses[0].ContainerID)
		eventually(t, 2*time.Minute, func(ctx context.Context) error { return runsAs(ctx, id, v1alpha1.ReasonMatched) })
	}
	agree(t)
	for _, id := range ended {
		var list v1alpha1.NodeContainerList
		if err := api.List(t.Context(), &list, client.MatchingFields{v1alpha1.FieldContainerID: id}); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].Status.ExitCode == nil || *list.Items[0].Status.ExitCode != 7 {
			t.Errorf("%s, which exited 7 meanwhile, has the objects %v", id, list.Items)
		}
	}
}

// askAtOnce starts anew what watches the API server that is back: client-go pauses for up to a minute between two tries,
// which is nothing of ours. Agents have no watch, and stay. In make test-long all come back by themselves.
func askAtOnce(t *testing.T, nodes []string) {
	t.Helper()
	if machine.Long() {
		return
	}
	for _, component := range []string{"kube-controller-manager", "kube-scheduler"} {
		for _, command := range []string{"stop", "start"} {
			if _, err := cluster(t.Context(), command, component); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, node := range nodes { // where both are started again: keep of node.sh, and the kubelet
		onNode(t, node, "sh", "-c", `kill $(pidof kubelet); ! pid=$(pidof controller) || kill $pid`)
	}
}
