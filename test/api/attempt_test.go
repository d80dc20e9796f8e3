package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// attempt is a request, as it goes over the wire. Its path is below the API of containerhook.io unless it is absolute.
type attempt struct {
	what       string
	verb, path string
	body       string
	refused    string // what is in the API server's answer to an agent; empty where it lets it do so
	admin      string // the same for a cluster-admin
}

// send does what is attempted, up to the store: a dry run goes through all else, and changes nothing.
func (a attempt) send(ctx context.Context, c rest.Interface) error {
	path := a.path
	if !strings.HasPrefix(path, "/") {
		path = "/apis/containerhook.io/v1alpha1/" + path
	}
	r := c.Verb(a.verb).RequestURI(path)
	if a.verb != "GET" {
		r.Param("dryRun", "All")
	}
	switch {
	case a.verb != "PATCH":
	case strings.HasPrefix(a.body, "["):
		r.SetHeader("Content-Type", string(types.JSONPatchType))
	case strings.Contains(a.body, `"apiVersion":"containerhook.io`):
		r.SetHeader("Content-Type", string(types.ApplyYAMLPatchType)).Param("fieldManager", "test").Param("force", "true")
	default:
		r.SetHeader("Content-Type", string(types.MergePatchType))
	}
	if a.body != "" {
		r.Body([]byte(a.body))
	}
	return r.Do(ctx).Error()
}

// check fails where err is not what was to be said.
func check(t *testing.T, who string, err error, refused string) {
	t.Helper()
	switch {
	case refused == "" && err != nil:
		t.Errorf("%s is refused: %v", who, err)
	case refused != "" && err == nil:
		t.Errorf("%s is let do it", who)
	case refused != "" && !strings.Contains(err.Error(), refused):
		t.Errorf("%s is refused, but not with %q: %v", who, refused, err)
	}
}

// nodeContainer returns the JSON of a NodeContainer, with more of metadata.
func nodeContainer(name, node, metadata string) string {
	return fmt.Sprintf(`{"apiVersion":"containerhook.io/v1alpha1","kind":"NodeContainer","metadata":{"name":%q%s},
		"spec":{"nodeName":%q,"bootID":"b","containerID":"0123456789abcdef","type":"Container"}}`, name, metadata, node)
}

// nodeAgent returns the JSON of a NodeContainerAgent, with more of metadata, and with more beside it.
func nodeAgent(name, metadata, more string) string {
	return fmt.Sprintf(`{"apiVersion":"containerhook.io/v1alpha1","kind":"NodeContainerAgent","metadata":{"name":%q%s}%s}`,
		name, metadata, more)
}

// ownedBy returns the JSON of metadata's ownerReferences, to follow other fields.
func ownedBy(apiVersion, kind, name string, uid types.UID) string {
	return fmt.Sprintf(`,"ownerReferences":[{"apiVersion":%q,"kind":%q,"name":%q,"uid":%q}]`, apiVersion, kind, name, uid)
}

// agentOn returns a client as the agent of a node has it.
func agentOn(t *testing.T, node string) rest.Interface {
	t.Helper()
	config, err := plane.PodClient(t.Context(), system, "containerhook-agent", node)
	if err != nil {
		t.Fatal(err)
	}
	return restOf(t, config)
}

func restOf(t *testing.T, config *rest.Config) rest.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.CoreV1().RESTClient()
}
