package controller

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
	"github.com/containerhook/containerhook/internal/drift"
)

// What is judged of a container and its pod as the cache keeps them is what is judged of them as they are.
func TestTheCacheKeepsWhatDriftReads(t *testing.T) {
	root, yes := int64(0), true
	c := container(func(c *v1alpha1.NodeContainer) {
		c.Spec.Security.Privileged, c.Spec.User.UID, c.Spec.Image.Name = true, &root, "docker.io/library/redis:7"
		c.Spec.Capabilities = []string{"SYS_ADMIN"}
		c.Spec.Mounts = []v1alpha1.ContainerMount{{Destination: "/h", Source: "/etc"}}
		c.Status.HostNamespaces = []v1alpha1.NamespaceType{v1alpha1.NamespacePID}
	})
	p := web(func(p *corev1.Pod) {
		p.Spec.HostUsers = new(bool)
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes}
	})
	whole := drift.Differences(c, p)
	c, p = kept(t, c), kept(t, p)
	if held := drift.Differences(c, p); len(whole) != 8 || !slices.Equal(held, whole) {
		t.Errorf("of what the cache keeps it is %q, of everything %q", held, whole)
	}
}

// The twin: what keeps a container from differing is kept too.
func TestTheCacheKeepsWhatDriftFindsAsRequested(t *testing.T) {
	yes := true
	c := container(func(c *v1alpha1.NodeContainer) {
		c.Spec.Security.UserNamespace, c.Spec.Security.ReadOnlyRootFilesystem = true, true
		c.Spec.Image.Name = "registry.local:5000/nginx:1.29"
		c.Spec.Mounts = []v1alpha1.ContainerMount{{Destination: "/h", Source: "/etc", ReadOnly: true}}
	})
	p := web(func(p *corev1.Pod) {
		p.Spec.HostUsers = new(bool)
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: &yes}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/h", ReadOnly: true}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}}
		p.Status.ContainerStatuses[0].Image = "registry.local:5000/nginx:1.29"
	})
	whole := drift.Differences(c, p)
	c, p = kept(t, c), kept(t, p)
	if held := drift.Differences(c, p); len(whole) != 0 || len(held) != 0 {
		t.Errorf("of what the cache keeps it is %q, of everything %q", held, whole)
	}
}

// kept returns what the cache holds of an object.
func kept[T client.Object](t *testing.T, object T) T {
	t.Helper()
	for kind, options := range cache.Options().ByObject {
		if _, ok := kind.(T); !ok {
			continue
		}
		held, err := options.Transform(object)
		if err != nil {
			t.Fatal(err)
		}
		return held.(T)
	}
	t.Fatalf("the cache says nothing of a %T", object)
	return object
}
