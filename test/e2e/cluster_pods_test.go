package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// podOf is a pod of one container that runs a line of shell, on a node or, where that is empty, on any.
func podOf(name, node, line string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-", Namespace: namespace},
		Spec:       specOf(node, corev1.RestartPolicyNever, line),
	}
}

// specOf has one container, main.
func specOf(node string, restart corev1.RestartPolicy, line string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName:                      node,
		RestartPolicy:                 restart,
		TerminationGracePeriodSeconds: new(int64), // a shell that is PID 1 does not end by SIGTERM
		Containers:                    []corev1.Container{containerOf("main", line)},
	}
}

func containerOf(name, line string) corev1.Container {
	return corev1.Container{Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", line}}
}

// create makes an object, which goes at the end of the test, its pods with it.
func create[T client.Object](t *testing.T, object T) T {
	t.Helper()
	if err := api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := api.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			t.Errorf("delete %s: %v", object.GetName(), err)
		}
	})
	return object
}

// startPod makes a pod that sleeps, and returns how long it took until its container ran.
func startPod(t *testing.T, node string) (*corev1.Pod, time.Duration) {
	t.Helper()
	began := time.Now()
	pod := create(t, podOf("sleep", node, "exec sleep 100000"))
	eventually(t, 2*time.Minute, func(ctx context.Context) error {
		return phaseIs(ctx, pod, corev1.PodRunning)
	})
	return pod, time.Since(began)
}

// phaseIs says what a pod's phase is where it is not that. The pod is read anew.
func phaseIs(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase) error {
	if err := api.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
		return fmt.Errorf("read pod: %w", err)
	}
	if pod.Status.Phase != phase {
		return fmt.Errorf("pod %s is %s, not %s", pod.Name, pod.Status.Phase, phase)
	}
	return nil
}

// statusesOf are those of all containers of a pod: init, ephemeral and plain.
func statusesOf(pod *corev1.Pod) (all []corev1.ContainerStatus) {
	all = append(all, pod.Status.InitContainerStatuses...)
	all = append(all, pod.Status.ContainerStatuses...)
	return append(all, pod.Status.EphemeralContainerStatuses...)
}

// idOf is a container's ID without the name of its engine.
func idOf(status string) string {
	_, id, _ := strings.Cut(status, "://")
	return id
}

// objectsOf are the NodeContainers of a pod.
func objectsOf(ctx context.Context, pod *corev1.Pod) ([]v1alpha1.NodeContainer, error) {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldPodUID: string(pod.UID)}); err != nil {
		return nil, fmt.Errorf("list NodeContainers: %w", err)
	}
	return list.Items, nil
}
