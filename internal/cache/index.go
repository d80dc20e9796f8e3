package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/drift"
)

// Indexes of the cache.
const (
	byKey         = "key" // of pods and of containers: podKeys, containerKeys
	byNode        = v1alpha1.FieldNodeName
	byStoppedName = "stoppedName" // NameOf
)

// Indexes are what the cache must have before it is read from here.
var Indexes = []struct {
	Object client.Object
	Field  string
	Values client.IndexerFunc
}{
	{&corev1.Pod{}, byKey, func(o client.Object) []string { return podKeys(o.(*corev1.Pod)) }},
	{&corev1.Pod{}, byNode, func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }},
	{&v1alpha1.NodeContainer{}, byKey, func(o client.Object) []string { return containerKeys(o.(*v1alpha1.NodeContainer)) }},
	{&v1alpha1.NodeContainer{}, byNode, func(o client.Object) []string { return []string{o.(*v1alpha1.NodeContainer).Spec.NodeName} }},
	{&v1alpha1.NodeContainer{}, byStoppedName, func(o client.Object) []string { return stoppedNames(o.(*v1alpha1.NodeContainer)) }},
}

// PodsOf returns the pods that may account for c: those that have its ID, and those that it claims by UID or by name.
// They are the cache's own, as are those of the functions below.
func PodsOf(ctx context.Context, cached client.Reader, c *v1alpha1.NodeContainer) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	for _, key := range containerKeys(c) {
		var list corev1.PodList
		if err := cached.List(ctx, &list, client.MatchingFields{byKey: key}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list pods by %q: %w", key, err)
		}
		pods = append(pods, list.Items...)
	}
	return pods, nil
}

// PodsOn returns the pods of a node.
func PodsOn(ctx context.Context, cached client.Reader, node string) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := cached.List(ctx, &list, client.MatchingFields{byNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list pods on %q: %w", node, err)
	}
	return list.Items, nil
}

// ContainersOf returns the containers for which p may account, some more than once.
func ContainersOf(ctx context.Context, cached client.Reader, p *corev1.Pod) ([]v1alpha1.NodeContainer, error) {
	return containersBy(ctx, cached, byKey, podKeys(p)...)
}

// ContainersOn returns the containers of a node.
func ContainersOn(ctx context.Context, cached client.Reader, node string) ([]v1alpha1.NodeContainer, error) {
	return containersBy(ctx, cached, byNode, node)
}

// StoppedLike returns the containers that have stopped and are instances of the same as c, by NameOf.
func StoppedLike(ctx context.Context, cached client.Reader, c *v1alpha1.NodeContainer) ([]v1alpha1.NodeContainer, error) {
	return containersBy(ctx, cached, byStoppedName, NameOf(c))
}

func containersBy(ctx context.Context, cached client.Reader, index string, values ...string) ([]v1alpha1.NodeContainer, error) {
	var all []v1alpha1.NodeContainer
	for _, value := range values {
		var list v1alpha1.NodeContainerList
		if err := cached.List(ctx, &list, client.MatchingFields{index: value}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list containers by %s %q: %w", index, value, err)
		}
		all = append(all, list.Items...)
	}
	return all, nil
}

// ConfigHash is the annotation of a mirror pod with the hash of its static pod's manifest. It is the UID that the
// containers of a static pod know.
const ConfigHash = "kubernetes.io/config.hash"

// podKeys are what a container can know of its pod p, or p of its containers.
func podKeys(p *corev1.Pod) []string {
	keys := []string{"name/" + p.Namespace + "/" + p.Name, "uid/" + string(p.UID)}
	if hash := p.Annotations[ConfigHash]; hash != "" && hash != string(p.UID) {
		keys = append(keys, "uid/"+hash)
	}
	for _, id := range ContainerIDs(p) {
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

// ContainerIDs are the IDs of p's containers, as the runtime knows them: a status has "containerd://<ID>". Of one that
// was restarted the instance before is there too.
func ContainerIDs(p *corev1.Pod) []string {
	var ids []string
	for _, s := range drift.Statuses(p) {
		urls := []string{s.ContainerID}
		for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
			if state.Terminated != nil {
				urls = append(urls, state.Terminated.ContainerID)
			}
		}
		for _, url := range urls {
			if _, id, ok := strings.Cut(url, "://"); ok && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func stoppedNames(c *v1alpha1.NodeContainer) []string {
	if c.Status.State != v1alpha1.StateStopped {
		return nil
	}
	return []string{NameOf(c)}
}

// NameOf is what instances of one container on one node have in common: its name in its pod, its engine's name for it,
// or its ID, which some engines use again.
func NameOf(c *v1alpha1.NodeContainer) string {
	pod := c.Spec.Pod
	switch {
	case pod.Name != "" && pod.Container != "":
		return strings.Join([]string{c.Spec.NodeName, pod.Namespace, pod.Name, pod.Container}, "/")
	case c.Spec.Name != "":
		return c.Spec.NodeName + "/" + c.Spec.Name
	}
	return c.Spec.NodeName + "/" + c.Spec.ContainerID
}
