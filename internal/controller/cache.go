package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Fields by which the cache finds objects.
const (
	podByUID          = "uid"         // of a pod, and of a mirror pod its hash too
	podByContainerID  = "containerID" // of its statuses, without the runtime's name
	containerByPodUID = v1alpha1.FieldPodUID
	containerByID     = v1alpha1.FieldContainerID
	containerByNode   = v1alpha1.FieldNodeName
	stoppedByName     = "stoppedName" // nameOf
)

// indexes are what the reconcilers look objects up by.
var indexes = []struct {
	object client.Object
	field  string
	values client.IndexerFunc
}{
	{&corev1.Pod{}, podByUID, podValues(uidsOf)},
	{&corev1.Pod{}, podByContainerID, podValues(containerIDs)},
	{&v1alpha1.NodeContainer{}, containerByPodUID, containerValue(func(c *v1alpha1.NodeContainer) string { return c.Spec.Pod.UID })},
	{&v1alpha1.NodeContainer{}, containerByID, containerValue(func(c *v1alpha1.NodeContainer) string { return c.Spec.ContainerID })},
	{&v1alpha1.NodeContainer{}, containerByNode, containerValue(func(c *v1alpha1.NodeContainer) string { return c.Spec.NodeName })},
	{&v1alpha1.NodeContainer{}, stoppedByName, containerValue(stoppedName)},
}

func podValues(of func(*corev1.Pod) []string) client.IndexerFunc {
	return func(o client.Object) []string { return of(o.(*corev1.Pod)) }
}

func containerValue(of func(*v1alpha1.NodeContainer) string) client.IndexerFunc {
	return func(o client.Object) []string {
		if value := of(o.(*v1alpha1.NodeContainer)); value != "" {
			return []string{value}
		}
		return nil
	}
}

func stoppedName(c *v1alpha1.NodeContainer) string {
	if c.Status.State != v1alpha1.StateStopped {
		return ""
	}
	return nameOf(c)
}

func uidsOf(p *corev1.Pod) []string {
	uids := []string{string(p.UID)}
	if hash := p.Annotations[configHash]; hash != "" && hash != string(p.UID) {
		uids = append(uids, hash)
	}
	return uids
}

// CacheOptions keep in memory what the policies ask for, and of pods those only that are on a node. What they do not
// keep reads as empty: nothing but a policy may read these objects, and nothing may write them back.
func CacheOptions() cache.Options {
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
