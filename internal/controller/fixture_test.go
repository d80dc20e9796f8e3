package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// began is when the containers of the tests were made.
var began = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const webUID = "0f8fad5b-d9cb-469f-a165-70867728950e"

// container is a running container "main" of the pod default/web on node n1, as an agent tells it.
func container(changes ...func(*v1alpha1.NodeContainer)) *v1alpha1.NodeContainer {
	uid := int64(1000)
	created := metav1.NewMicroTime(began)
	c := &v1alpha1.NodeContainer{
		ObjectMeta: metav1.ObjectMeta{Name: "n1-c1-x", UID: "c1-uid", CreationTimestamp: metav1.NewTime(began)},
		Spec: v1alpha1.NodeContainerSpec{
			NodeName: "n1", BootID: "boot-1", ContainerID: "c1", Type: v1alpha1.TypeContainer,
			Pod:          v1alpha1.ContainerPod{Namespace: "default", Name: "web", UID: webUID, Container: "main"},
			Image:        v1alpha1.ContainerImage{Name: "docker.io/library/nginx:1.29"},
			User:         v1alpha1.ContainerUser{UID: &uid, GID: &uid},
			Capabilities: []string{"CHOWN", "KILL"},
		},
		Status: v1alpha1.NodeContainerStatus{State: v1alpha1.StateRunning, CreateTime: &created, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionObserved, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHook, LastTransitionTime: metav1.NewTime(began)},
		}},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

// web is the pod of that container, which runs in it.
func web(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: webUID},
		Spec: corev1.PodSpec{
			NodeName:   "n1",
			Containers: []corev1.Container{{Name: "main", Image: "nginx:1.29"}},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", ContainerID: "containerd://c1", Image: "docker.io/library/nginx:1.29"},
		}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func stoppedAt(t time.Time) func(*v1alpha1.NodeContainer) {
	return func(c *v1alpha1.NodeContainer) {
		finished := metav1.NewMicroTime(t)
		c.Status.State, c.Status.FinishTime = v1alpha1.StateStopped, &finished
	}
}

func withCondition(kind string, status metav1.ConditionStatus, reason string, since time.Time) func(*v1alpha1.NodeContainer) {
	return func(c *v1alpha1.NodeContainer) {
		c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(since),
		})
	}
}

// wasMatched is what the controller wrote of a container that had a pod.
func wasMatched(c *v1alpha1.NodeContainer) {
	withCondition(v1alpha1.ConditionPodMatched, metav1.ConditionTrue, v1alpha1.ReasonMatched, began)(c)
	withCondition(v1alpha1.ConditionSpecMatched, metav1.ConditionTrue, v1alpha1.ReasonAsRequested, began)(c)
}

func claims(pod v1alpha1.ContainerPod) func(*v1alpha1.NodeContainer) {
	return func(c *v1alpha1.NodeContainer) { c.Spec.Pod = pod }
}

func hasUID(uid string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.UID = types.UID(uid) } }

func hasStatuses(statuses ...corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = statuses }
}
