package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Indexes by which the cache finds objects.
const (
	byKey         = "key" // of pods and of containers: podKeys, containerKeys
	byNode        = v1alpha1.FieldNodeName
	byStoppedName = "stoppedName" // nameOf
)

// indexes are what the reconcilers look objects up by.
var indexes = []struct {
	object client.Object
	field  string
	values client.IndexerFunc
}{
	{&corev1.Pod{}, byKey, func(o client.Object) []string { return podKeys(o.(*corev1.Pod)) }},
	{&v1alpha1.NodeContainer{}, byKey, func(o client.Object) []string { return containerKeys(o.(*v1alpha1.NodeContainer)) }},
	{&v1alpha1.NodeContainer{}, byNode, func(o client.Object) []string { return []string{o.(*v1alpha1.NodeContainer).Spec.NodeName} }},
	{&v1alpha1.NodeContainer{}, byStoppedName, func(o client.Object) []string { return stoppedNames(o.(*v1alpha1.NodeContainer)) }},
}

// podKeys are what a container can know of its pod p, or p of its containers.
func podKeys(p *corev1.Pod) []string {
	keys := []string{"name/" + p.Namespace + "/" + p.Name, "uid/" + string(p.UID)}
	if hash := p.Annotations[configHash]; hash != "" && hash != string(p.UID) {
		keys = append(keys, "uid/"+hash)
	}
	for _, id := range containerIDs(p) {
		keys = append(keys, "id/"+id)
	}
	return keys
}

// containerKeys are those that a pod may have that accounts for c.
func containerKeys(c *v1alpha1.NodeContainer) []string {
	keys := []string{"id/" + c.Spec.ContainerID}
	if c.Spec.Pod.UID != "" {
		keys = append(keys, "uid/"+c.Spec.Pod.UID)
	}
	if c.Spec.Pod.Name != "" {
		keys = append(keys, "name/"+c.Spec.Pod.Namespace+"/"+c.Spec.Pod.Name)
	}
	return keys
}

func stoppedNames(c *v1alpha1.NodeContainer) []string {
	if c.Status.State != v1alpha1.StateStopped {
		return nil
	}
	return []string{nameOf(c)}
}

// containersBy returns the containers that an index has for a value. They are the cache's own.
func containersBy(ctx context.Context, cached client.Reader, index, value string) ([]v1alpha1.NodeContainer, error) {
	var list v1alpha1.NodeContainerList
	if err := cached.List(ctx, &list, client.MatchingFields{index: value}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list containers by %s %q: %w", index, value, err)
	}
	return list.Items, nil
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
