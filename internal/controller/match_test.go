package controller

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

// A container's pod accounts for it by the container's ID in its status. Every case that is matched has one beside it
// that is not.
func TestMatchAsksThePodsStatus(t *testing.T) {
	const hash = "8d777f385d3dfec8815d20f7496026dc"
	static := claims(v1alpha1.ContainerPod{Namespace: "kube-system", Name: "etcd-n1", UID: hash, Container: "main"})
	mirror := func(hash string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Namespace, p.Name, p.UID, p.Annotations = "kube-system", "etcd-n1", "mirror-uid", map[string]string{cache.ConfigHash: hash}
		}
	}
	restartedAs := func(id string, restarts int32) func(*corev1.Pod) {
		return hasStatuses(corev1.ContainerStatus{Name: "main", ContainerID: "containerd://c9", RestartCount: restarts,
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://" + id}}})
	}
	unclaimed := claims(v1alpha1.ContainerPod{})
	matchedBefore := wasMatched
	later, soon := began.Add(10*time.Minute), began.Add(10*time.Second)

	for _, test := range []struct {
		name string
		c    *v1alpha1.NodeContainer
		pods []corev1.Pod
		now  time.Time
		want string
	}{
		{"its ID is in the status", container(), []corev1.Pod{*web()}, later, v1alpha1.ReasonMatched},
		{"the cache finds its pod three times", container(), []corev1.Pod{*web(), *web(), *web()}, later, v1alpha1.ReasonMatched},
		{"another ID is in the status", container(), []corev1.Pod{*web(hasStatuses(corev1.ContainerStatus{ContainerID: "containerd://c2"}))}, later, v1alpha1.ReasonNotInPodStatus},
		{"an ID that only begins like its own", container(), []corev1.Pod{*web(hasStatuses(corev1.ContainerStatus{ContainerID: "containerd://c11"}))}, later, v1alpha1.ReasonNotInPodStatus},

		{"an init container", container(), []corev1.Pod{*web(hasStatuses(), func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{ContainerID: "cri-o://c1"}}
		})}, later, v1alpha1.ReasonMatched},
		{"an ephemeral container", container(), []corev1.Pod{*web(hasStatuses(), func(p *corev1.Pod) {
			p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{ContainerID: "containerd://c1"}}
		})}, later, v1alpha1.ReasonMatched},

		{"a static pod's mirror", container(static), []corev1.Pod{*web(mirror(hash))}, later, v1alpha1.ReasonMatched},
		{"the mirror of a later manifest", container(static), []corev1.Pod{*web(mirror("another"))}, later, v1alpha1.ReasonPodGone},
		{"a static pod before its mirror", container(static), nil, soon, v1alpha1.ReasonPending},

		{"the status has nothing yet", container(), []corev1.Pod{*web(hasStatuses())}, soon, v1alpha1.ReasonPending},
		{"the status has nothing for long", container(), []corev1.Pod{*web(hasStatuses())}, later, v1alpha1.ReasonNotInPodStatus},

		{"no claim and no pod", container(unclaimed), nil, later, v1alpha1.ReasonNotKubernetes},
		{"no claim and no pod, at once", container(unclaimed), nil, soon, v1alpha1.ReasonNotKubernetes},
		{"no claim, but a pod knows it", container(unclaimed), []corev1.Pod{*web()}, later, v1alpha1.ReasonMatched},
		{"no claim, and a pod of another node has its ID", container(unclaimed), []corev1.Pod{*web(func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}, later, v1alpha1.ReasonNotKubernetes},

		{"its pod is gone", container(), nil, later, v1alpha1.ReasonPodGone},
		{"its pod went soon after it came", container(matchedBefore), nil, soon, v1alpha1.ReasonPodGone},
		{"the cache does not have its pod yet", container(), nil, soon, v1alpha1.ReasonPending},
		{"its pod was replaced under its name", container(), []corev1.Pod{*web(hasUID("another"), hasStatuses())}, later, v1alpha1.ReasonPodGone},
		{"its pod was replaced and has its ID", container(), []corev1.Pod{*web(hasUID("another"))}, later, v1alpha1.ReasonPodGone},
		{"its pod is on another node", container(), []corev1.Pod{*web(func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}, later, v1alpha1.ReasonNotInPodStatus},
		{"it claims a name only", container(claims(v1alpha1.ContainerPod{Namespace: "default", Name: "web"})), []corev1.Pod{*web()}, later, v1alpha1.ReasonMatched},
		{"it claims another namespace", container(claims(v1alpha1.ContainerPod{Namespace: "other", Name: "web"})), []corev1.Pod{*web()}, later, v1alpha1.ReasonPodGone},

		{"the instance before", container(stoppedAt(soon)), []corev1.Pod{*web(restartedAs("c1", 1))}, later, v1alpha1.ReasonMatched},
		{"an instance that was matched once", container(stoppedAt(soon), matchedBefore), []corev1.Pod{*web(restartedAs("c8", 1))}, later, v1alpha1.ReasonMatched},
		{"an instance that the status has forgotten", container(stoppedAt(soon)), []corev1.Pod{*web(restartedAs("c8", 2))}, later, v1alpha1.ReasonMatched},
		{"more instances than there were", container(stoppedAt(soon)), []corev1.Pod{*web(restartedAs("c8", 1))}, later, v1alpha1.ReasonNotInPodStatus},
		{"an instance that still runs", container(matchedBefore), []corev1.Pod{*web(restartedAs("c8", 2))}, later, v1alpha1.ReasonNotInPodStatus},
		{"an instance of another container", container(stoppedAt(soon), func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Container = "side" }), []corev1.Pod{*web(restartedAs("c8", 2))}, later, v1alpha1.ReasonNotInPodStatus},

		{"a sandbox", container(func(c *v1alpha1.NodeContainer) { c.Spec.Type = v1alpha1.TypeSandbox }), []corev1.Pod{*web(hasStatuses())}, later, v1alpha1.ReasonMatched},
		{"a sandbox without its pod", container(func(c *v1alpha1.NodeContainer) { c.Spec.Type = v1alpha1.TypeSandbox }), nil, later, v1alpha1.ReasonPodGone},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, pod := match(test.c, test.pods, test.now)
			if got.reason != test.want {
				t.Errorf("got %+v, want %s", got, test.want)
			}
			if isMatched := got.status == metav1.ConditionTrue; isMatched != (test.want == v1alpha1.ReasonMatched) || isMatched != (pod != nil) {
				t.Errorf("status %s and pod %v with reason %s", got.status, pod != nil, got.reason)
			}
		})
	}
}

func TestMatchKnowsBothPodsOfARestart(t *testing.T) {
	p := web(hasStatuses(corev1.ContainerStatus{
		ContainerID:          "containerd://c3",
		State:                corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://c3"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://c2"}},
	}, corev1.ContainerStatus{ContainerID: ""}))
	if got := cache.ContainerIDs(p); len(got) != 2 || got[0] != "c3" || got[1] != "c2" {
		t.Errorf("got %q, want c3 and c2, each once", got)
	}
}
