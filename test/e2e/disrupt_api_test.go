package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// startStaticPod has the kubelet start a pod without the API, and returns how long it took until a container more than before
// runs on the node. The pod goes at the end.
func startStaticPod(t *testing.T, node, name, line string) time.Duration {
	t.Helper()
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: specOf("", corev1.RestartPolicyAlways, line)}
	manifest, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	running := func(ctx context.Context) (n int) {
		all, err := runtimesSay(ctx, node)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.state == v1alpha1.StateRunning {
				n++
			}
		}
		return n
	}
	before, began := running(t.Context()), time.Now()
	file := "/run/manifests/" + name + ".json"
	onNode(t, node, "sh", "-c", `printf %s "$1" >"/run/$$" && mv "/run/$$" "$0"`, file, string(manifest))
	t.Cleanup(func() { onNodeAtEnd(t, node, "rm", "-f", file) })
	eventually(t, time.Minute, func(ctx context.Context) error {
		if n := running(ctx); n != before+1 {
			return fmt.Errorf("%d containers run, and %d did before", n, before)
		}
		return nil
	})
	return time.Since(began)
}

func TestContainersStartAndEndWhileTheAPIServerIsAway(t *testing.T) {
	needsOurNodes(t)
	node := someNodes(t, 1)[0]
	pod, _ := startPod(t, node)
	usual := startStaticPod(t, node, "before", "exec sleep 100000")
	away := 2 * time.Minute
	if _, err := cluster(t.Context(), "stop", "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	back := false
	start := func(ctx context.Context) {
		if _, err := cluster(ctx, "start", "kube-apiserver"); err != nil {
			t.Error(err)
		}
		back = true
	}
	defer func() {
		if !back {
			start(context.Background())
		}
	}()
	down := time.Now()
	for i := 0; time.Since(down) < away; i++ {
		took := startStaticPod(t, node, fmt.Sprintf("meanwhile-%d", i), "exec sleep 100000")
		t.Logf("a pod runs after %v; usual are %v", took, usual)
		if took > usual+patience {
			t.Errorf("a pod takes %v to start, and usually %v", took, usual)
		}
		startsAndEnds(t, node, fmt.Sprintf("ends-%d", i))
	}
	start(t.Context())

	eventually(t, time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
	for _, name := range someNodes(t, 2) {
		runningAgent(t, name, nil)
	}
	agree(t)
}

// startsAndEnds runs a container past Kubernetes that exits 7.
func startsAndEnds(t *testing.T, node, name string) {
	t.Helper()
	onNode(t, node, "sh", "-c", `ctr --namespace k8s.io run --rm containerhook.test/busybox:1 "$0" sh -c "exit 7" || [ $? = 7 ]`, name)
}
