package cache

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/drift"
)

// Options keep in memory what the policies ask for, and of pods those only that are on a node.
func Options() cache.Options {
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Pod{}: {
			Field:     fields.OneTermNotEqualSelector("spec.nodeName", ""),
			Transform: transform(stripPod),
		},
		&corev1.Node{}:                 {Transform: transform(stripNode)},
		&v1alpha1.NodeContainer{}:      {Transform: transform(stripContainer)},
		&v1alpha1.NodeContainerAgent{}: {Transform: transform(stripAgent)},
	}}
}

// transform makes a cache's transform function of strip. The cache also hands in tombstones, which it has stripped
// before.
func transform[T client.Object](strip func(T)) func(any) (any, error) {
	return func(o any) (any, error) {
		if object, ok := o.(T); ok {
			strip(object)
		}
		return o, nil
	}
}

func stripNode(n *corev1.Node) {
	n.ObjectMeta = identity(n.ObjectMeta)
	n.Spec = corev1.NodeSpec{}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(ReportedAt(n))}
	n.Status = corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{ready},
		NodeInfo:   corev1.NodeSystemInfo{BootID: n.Status.NodeInfo.BootID},
	}
}

// ReportedAt is when the kubelet last wrote its Node's status; zero if it never did.
func ReportedAt(node *corev1.Node) time.Time {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.LastHeartbeatTime.Time
		}
	}
	return time.Time{}
}

func stripAgent(a *v1alpha1.NodeContainerAgent) {
	a.ObjectMeta = identity(a.ObjectMeta)
	status := a.Status
	a.Status = v1alpha1.NodeContainerAgentStatus{
		Conditions: status.Conditions, BootID: status.BootID, ObservedSince: status.ObservedSince, HeartbeatTime: status.HeartbeatTime,
		LastListTime: status.LastListTime, DroppedContainers: status.DroppedContainers, SuppressedContainers: status.SuppressedContainers,
	}
}

func stripContainer(c *v1alpha1.NodeContainer) {
	c.ObjectMeta = identity(c.ObjectMeta)
	spec, status := c.Spec, c.Status
	c.Spec = v1alpha1.NodeContainerSpec{
		NodeName: spec.NodeName, BootID: spec.BootID, ContainerID: spec.ContainerID, Name: spec.Name, Type: spec.Type,
		Pod: spec.Pod, Image: spec.Image, User: v1alpha1.ContainerUser{UID: spec.User.UID},
		Capabilities: spec.Capabilities,
		Security: v1alpha1.ContainerSecurity{
			Privileged: spec.Security.Privileged, UserNamespace: spec.Security.UserNamespace,
			ReadOnlyRootFilesystem: spec.Security.ReadOnlyRootFilesystem,
		},
	}
	for _, m := range spec.Mounts {
		if m.Source != "" {
			c.Spec.Mounts = append(c.Spec.Mounts, m)
		}
	}
	c.Status = v1alpha1.NodeContainerStatus{
		Conditions: status.Conditions, State: status.State, HostNamespaces: status.HostNamespaces,
		CreateTime: status.CreateTime, FinishTime: status.FinishTime,
	}
}

func stripPod(p *corev1.Pod) {
	hash, mirror := p.Annotations[ConfigHash]
	p.ObjectMeta = identity(p.ObjectMeta)
	if mirror {
		p.Annotations = map[string]string{ConfigHash: hash}
	}
	p.Spec = drift.Asked(&p.Spec)
	status := p.Status
	p.Status = corev1.PodStatus{
		InitContainerStatuses:      strippedStatuses(status.InitContainerStatuses),
		ContainerStatuses:          strippedStatuses(status.ContainerStatuses),
		EphemeralContainerStatuses: strippedStatuses(status.EphemeralContainerStatuses),
	}
}

func strippedStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, s := range all {
		kept = append(kept, corev1.ContainerStatus{
			Name: s.Name, ContainerID: s.ContainerID, RestartCount: s.RestartCount, Image: s.Image, ImageID: s.ImageID,
			State: ended(s.State), LastTerminationState: ended(s.LastTerminationState),
		})
	}
	return kept
}

// ended keeps the container ID of a state.
func ended(s corev1.ContainerState) corev1.ContainerState {
	if s.Terminated == nil {
		return corev1.ContainerState{}
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: s.Terminated.ContainerID}}
}

// identity is what every object keeps of its metadata.
func identity(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}
