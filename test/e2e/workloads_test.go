package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// podsOf are the labels of a workload's pods.
func podsOf(workload string) client.MatchingLabels {
	return client.MatchingLabels{"workload": strings.ReplaceAll(workload, " ", "-")}
}

const forever = "exec sleep 100000"

type workload struct {
	name string
	pod  corev1.PodSpec
	of   func(pod corev1.PodTemplateSpec) client.Object
	want int // instances of containers that their pods' statuses name in the end: one that is restarted counts again
}

// workloads are all ways to have the kubelet start containers but a static pod and an ephemeral container. What takes long
// comes last, but for the crash loop: statuses forget its instances.
func workloads() []workload {
	always, never := corev1.RestartPolicyAlways, corev1.RestartPolicyNever
	return []workload{
		{"crash loop", specOf("", always, "exit 7"), deployment, 6},
		{"deployment", specOf("", always, forever), deployment, 2},
		{"statefulset", specOf("", always, forever), statefulSet, 2},
		{"daemonset", specOf("", always, forever), daemonSet, 1},
		{"job that completes", specOf("", never, "exit 0"), job, 1},
		{"job that fails", specOf("", never, "exit 3"), job, 1},
		{"init containers", withInits(specOf("", always, forever), containerOf("first", "exit 0"), containerOf("second", "sleep 1")), deployment, 6},
		{"sidecar", withInits(specOf("", never, "exit 5"), sidecarOf("beside", "trap 'exit 6' TERM; sleep 100000 & wait")), job, 2},
		{"cronjob", specOf("", never, "exit 4"), cronJob, 1},
	}
}

func TestEveryContainerOfEveryWorkloadIsAnObjectOfItsPod(t *testing.T) {
	beside(t)
	all := workloads()
	for _, w := range all { // all at once: some take a minute
		object := w.of(corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: podsOf(w.name)}, Spec: w.pod})
		object.SetNamespace(namespace)
		object.SetName(strings.ReplaceAll(w.name, " ", "-"))
		create(t, object)
	}
	for _, w := range all {
		t.Run(w.name, func(t *testing.T) {
			instances := map[string]bool{}
			eventually(t, 3*time.Minute, func(ctx context.Context) error { return accounted(ctx, podsOf(w.name), instances, w.want) })
		})
	}
	agree(t)
}

func TestAnEphemeralContainerIsAnObjectOfItsPod(t *testing.T) {
	beside(t)
	pod := podOf("debugged", "", forever)
	pod.Labels = podsOf("ephemeral")
	create(t, pod)
	eventually(t, time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debugger", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", "exit 8"}}}}
	if err := api.SubResource("ephemeralcontainers").Update(t.Context(), pod); err != nil { // as kubectl debug does
		t.Fatal(err)
	}
	instances := map[string]bool{}
	eventually(t, time.Minute, func(ctx context.Context) error {
		return accounted(ctx, podsOf("ephemeral"), instances, 2)
	})
	agree(t)
}

func TestAContainerOfAStaticPodIsAnObjectOfItsPod(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	node := someNodes(t, 1)[0]
	const path = "/run/manifests/static.json" // the node's own /run
	manifest := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static", "namespace": %q, "labels": {"workload": "static"}},
		"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": %q, "command": ["sleep", "100000"]}]}}`,
		namespace, image)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := cluster(ctx, "exec", node, "rm", "-f", path); err != nil {
			t.Error(err)
		}
	})
	onNode(t, node, "sh", "-c", `printf %s "$1" >"$2"`, "sh", manifest, path)
	instances := map[string]bool{}
	eventually(t, time.Minute, func(ctx context.Context) error {
		return accounted(ctx, podsOf("static"), instances, 1)
	})
	agree(t)
}

// accounted says which of the containers that pods' statuses name has no NodeContainer that says the same, or whether
// fewer than want have been named in all. instances are those that were found to be right: a status names the last two.
func accounted(ctx context.Context, of client.MatchingLabels, instances map[string]bool, want int) error {
	var pods corev1.PodList
	if err := api.List(ctx, &pods, client.InNamespace(namespace), of); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var wrong []error
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, s := range statusesOf(pod) {
			for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
				id, err := isRight(ctx, pod, s, state)
				if err != nil {
					wrong = append(wrong, fmt.Errorf("%s/%s %.12s: %w", pod.Name, s.Name, id, err))
				} else if id != "" {
					instances[id] = true
				}
			}
		}
	}
	if len(wrong) == 0 && len(instances) < want {
		wrong = append(wrong, fmt.Errorf("%d instances of containers, not %d", len(instances), want))
	}
	return errors.Join(wrong...)
}

// isRight says how the NodeContainer of a container's instance differs from what its pod's status says. The ID is empty
// where the status names no instance.
func isRight(ctx context.Context, pod *corev1.Pod, s corev1.ContainerStatus, state corev1.ContainerState) (id string, err error) {
	id, want := instanceOf(pod, s, state)
	if id == "" {
		return "", nil
	}
	o, err := objectOf(ctx, id)
	if err != nil {
		return id, err
	}
	if o.Spec.NodeName != pod.Spec.NodeName {
		return id, fmt.Errorf("it is on node %s, its object on %s", pod.Spec.NodeName, o.Spec.NodeName)
	}
	if wrong := unlike(want, objectSays(o)); len(wrong) > 0 {
		return id, errors.New(strings.Join(wrong, ", "))
	}
	return id, nil
}

// objectOf is the one NodeContainer of a container, in the whole cluster.
func objectOf(ctx context.Context, id string) (*v1alpha1.NodeContainer, error) {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldContainerID: id}); err != nil {
		return nil, fmt.Errorf("list NodeContainers: %w", err)
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("there are %d objects of it", len(list.Items))
	}
	return &list.Items[0], nil
}
