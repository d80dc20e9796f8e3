package api

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/controller"
)

// matchCase is a container, "c" of node-m unless it is changed, and a pod that may account for it. The time for a pod's
// status to name it is over, unless it is young.
type matchCase struct {
	name      string
	pod       func(*corev1.Pod)
	container func(*v1alpha1.NodeContainer)
	young     bool
	want      string
}

// matchCases have beside each case that is matched one that is not.
func matchCases() []matchCase {
	const hash = "8d777f385d3dfec8815d20f7496026dc"
	as := func(*v1alpha1.NodeContainer) {}
	unclaimed := func(c *v1alpha1.NodeContainer) { c.Spec.Pod = v1alpha1.ContainerPod{} }
	static := func(c *v1alpha1.NodeContainer) { c.Spec.Pod.UID = hash }
	ended := func(c *v1alpha1.NodeContainer) {
		now := metav1.NowMicro()
		c.Status.State, c.Status.FinishTime = v1alpha1.StateStopped, &now
	}
	mirror := func(hash string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.hash": hash} }
	}
	silent := func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }
	other := func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "containerd://other" }
	elsewhere := func(p *corev1.Pod) { p.Spec.NodeName = "node-n" }
	init := func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "main", Image: "none"}}
		p.Spec.Containers[0].Name = "later"
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
	}
	ephemeral := func(p *corev1.Pod) {
		p.Status.EphemeralContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
	}
	both := func(one, two func(*corev1.Pod)) func(*corev1.Pod) { return func(p *corev1.Pod) { one(p); two(p) } }
	otherInit := both(init, func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].ContainerID = "containerd://other" })
	otherEphemeral := both(ephemeral, func(p *corev1.Pod) { p.Status.EphemeralContainerStatuses[0].ContainerID = "containerd://other" })
	restarts := func(n int32, last bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			s := &p.Status.ContainerStatuses[0]
			before := "containerd://older"
			if last {
				before = s.ContainerID
			}
			s.ContainerID, s.RestartCount = "containerd://newer", n
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: before}
		}
	}
	return []matchCase{
		{"its pod's status has its ID", func(*corev1.Pod) {}, as, false, v1alpha1.ReasonMatched},
		{"its pod's status has another ID", other, as, false, v1alpha1.ReasonNotInPodStatus},
		{"its pod's status has nothing yet", silent, as, true, v1alpha1.ReasonPending},
		{"its pod's status has nothing for long", silent, as, false, v1alpha1.ReasonNotInPodStatus},
		{"its pod is on another node", elsewhere, as, false, v1alpha1.ReasonNotInPodStatus},
		{"its pod is not there yet", nil, as, true, v1alpha1.ReasonPending},
		{"its pod never was there", nil, as, false, v1alpha1.ReasonPodGone},
		{"another pod has its pod's name", func(*corev1.Pod) {}, func(c *v1alpha1.NodeContainer) { c.Spec.Pod.UID = "of-one-before" }, false, v1alpha1.ReasonPodGone},
		{"nothing says that it is of a pod", nil, unclaimed, true, v1alpha1.ReasonNotKubernetes},
		{"nothing says that it is of a pod but the pod", func(*corev1.Pod) {}, unclaimed, false, v1alpha1.ReasonMatched},
		{"a pod of another node has its ID", elsewhere, unclaimed, false, v1alpha1.ReasonNotKubernetes},

		{"a static pod's mirror", mirror(hash), static, false, v1alpha1.ReasonMatched},
		{"the mirror of another manifest", mirror("later"), func(c *v1alpha1.NodeContainer) { c.Spec.Pod.UID = "earlier" }, false, v1alpha1.ReasonPodGone},
		{"an init container", init, as, false, v1alpha1.ReasonMatched},
		{"an init container that the pod does not know", otherInit, as, false, v1alpha1.ReasonNotInPodStatus},
		{"an ephemeral container", ephemeral, as, false, v1alpha1.ReasonMatched},
		{"an ephemeral container that the pod does not know", otherEphemeral, as, false, v1alpha1.ReasonNotInPodStatus},
		{"the instance before a restart", restarts(1, true), ended, false, v1alpha1.ReasonMatched},
		{"an instance before the one before", restarts(2, false), ended, false, v1alpha1.ReasonMatched},
		{"more instances than there were restarts", restarts(1, false), ended, false, v1alpha1.ReasonNotInPodStatus},
		{"an instance before that runs", restarts(2, false), as, false, v1alpha1.ReasonNotInPodStatus},
	}
}

func TestTheControllerFindsThePodOfAContainer(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newShop(t, c)
	newNode(t, plane, "node-m")
	startController(t, plane, func(*controller.Options) {})
	cases := matchCases()
	for i, test := range cases {
		id := fmt.Sprintf("match-%d", i)
		pod := newPod(id, "node-m", id)
		container := newContainerOf(pod, id, "node-m", id)
		container.Spec.Pod.UID = "none"
		if test.pod != nil {
			test.pod(pod)
			tell(t, c, pod)
			container.Spec.Pod.UID = string(pod.UID)
		}
		if !test.young {
			before := metav1.NewMicroTime(time.Now().Add(-time.Hour))
			container.Status.CreateTime = &before
		}
		test.container(container)
		tell(t, c, container)
	}
	for i, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			name := fmt.Sprintf("match-%d", i)
			eventually(t, 30*time.Second, func() error { return has(t, c, name, v1alpha1.ConditionPodMatched, test.want) })
		})
	}
}

// What the controller says changes with what is.
func TestTheControllerFollowsAPod(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newShop(t, c)
	newNode(t, plane, "node-f")
	startController(t, plane, func(o *controller.Options) { o.StoppedTTL, o.UnmatchedStoppedTTL = time.Hour, time.Hour })
	const within = 30 * time.Second
	is := func(name, reason string) {
		t.Helper()
		eventually(t, within, func() error { return has(t, c, name, v1alpha1.ConditionPodMatched, reason) })
	}

	pod := newPod("web-0", "node-f", "")
	tell(t, c, pod)
	tell(t, c, newContainerOf(pod, "first", "node-f", "first"))
	is("first", v1alpha1.ReasonPending)
	patchStatus(t, c, pod.DeepCopy(), `{"status":{"containerStatuses":[
		{"name":"main","image":"none","imageID":"","ready":true,"restartCount":0,"containerID":"containerd://first"}]}}`)
	is("first", v1alpha1.ReasonMatched)

	tell(t, c, newContainerOf(pod, "ended", "node-f", "ended"))
	patchStatus(t, c, pod.DeepCopy(), `{"status":{"containerStatuses":[
		{"name":"main","image":"none","imageID":"","ready":true,"restartCount":0,"containerID":"containerd://first"},
		{"name":"side","image":"none","imageID":"","ready":true,"restartCount":0,"containerID":"containerd://ended"}]}}`)
	is("ended", v1alpha1.ReasonMatched)
	stop(t, c, "ended")

	// By force: the API server does not wait for the node. What still runs is a zombie.
	if err := c.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	is("first", v1alpha1.ReasonPodGone)
	eventually(t, within, func() error { return isNot(names(t, c, "node-f"), "ended") })

	again := newPod("web-0", "node-f", "second")
	tell(t, c, again)
	tell(t, c, newContainerOf(again, "second", "node-f", "second"))
	is("second", v1alpha1.ReasonMatched)
	stays(t, 5*time.Second, func() error { return has(t, c, "first", v1alpha1.ConditionPodMatched, v1alpha1.ReasonPodGone) })
}
