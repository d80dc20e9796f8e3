package api

import (
	"context"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// newClient returns a client without a cache.
func newClient(t testing.TB, config *rest.Config) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newContainer returns the smallest NodeContainer that the API server takes.
func newContainer(name, node string) *v1alpha1.NodeContainer {
	c := &v1alpha1.NodeContainer{}
	c.Name = name
	c.Spec = v1alpha1.NodeContainerSpec{
		NodeName: node, BootID: "boot", ContainerID: "0123456789abcdef", Type: v1alpha1.TypeContainer,
	}
	return c
}

// create makes an object for the time of the test.
func create(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatalf("create %s: %v", object.GetName(), err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(c.Delete(context.WithoutCancel(t.Context()), object)); err != nil {
			t.Errorf("delete %s: %v", object.GetName(), err)
		}
	})
}

// readYAML decodes a file strictly: a field that there is not fails.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
