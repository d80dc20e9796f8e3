package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/object"
)

const (
	system = "containerhook-system"

	// There are a NodeContainer and a NodeContainerAgent of each of these nodes; of fresh there is nothing yet.
	ourNode, ours     = "node-a", "node-a-0123456789ab-abcdefgh23"
	otherNode, theirs = "node-b", "node-b-0123456789ab-abcdefgh23"
	fresh             = "node-a-0123456789ab-bcdefgh234"
)

// What the API server says.
const (
	wrongName   = "the name does not belong to node node-a"
	wrongNode   = "spec.nodeName is not node-a"
	wrongOwner  = "an owner is not node node-a"
	finalizer   = "an agent sets no finalizers"
	wrongSpec   = "spec is the controller's"
	immutable   = "spec is immutable"
	exists      = "already exists"                          // asked last: nothing else is wrong
	unversioned = "metadata.resourceVersion: Invalid value" // who may update must say what
	unbound     = "the token does not say on which node the agent is"
)

// attempts are all that an agent of node-a may do, and what it may not. uid is its node's, other the other's.
func attempts(uid, other types.UID) []attempt {
	const (
		containers, agents = "nodecontainers", "nodecontaineragents"
		our, their         = containers + "/" + ours, containers + "/" + theirs
		label              = `{"metadata":{"labels":{"a":"b"}}}`
		running            = `{"status":{"state":"Running"}}`
		suspend            = `{"spec":{"suspendCreates":true}}`
		beat               = `{"status":{"version":"v1"}}`
	)
	return []attempt{
		{"create", "POST", containers, nodeContainer(fresh, ourNode, ""), "", ""},
		{"create, owned by its node", "POST", containers, nodeContainer(fresh, ourNode, ownedBy("v1", "Node", ourNode, uid)), "", ""},
		{"create, owned by another node", "POST", containers, nodeContainer(fresh, ourNode, ownedBy("v1", "Node", otherNode, other)), wrongOwner, ""},
		{"create, owned by another's UID", "POST", containers, nodeContainer(fresh, ourNode, ownedBy("v1", "Node", ourNode, other)), wrongOwner, ""},
		{"create, owned by what is no node", "POST", containers, nodeContainer(fresh, ourNode, ownedBy("v1", "Pod", ourNode, uid)), wrongOwner, ""},
		{"create with a finalizer", "POST", containers, nodeContainer(fresh, ourNode, `,"finalizers":["a.b/c"]`), finalizer, ""},
		{"create with another's nodeName", "POST", containers, nodeContainer(fresh, otherNode, ""), wrongNode, ""},
		{"create by another's name", "POST", containers, nodeContainer("node-b-0123456789ab-bcdefgh234", ourNode, ""), wrongName, ""},
		{"create all of another's", "POST", containers, nodeContainer("node-b-0123456789ab-bcdefgh234", otherNode, ""), wrongName, ""},
		{"create by a name without hash", "POST", containers, nodeContainer("node-a-evil", ourNode, ""), wrongName, ""},
		{"create by its node's name", "POST", containers, nodeContainer("node-a", ourNode, ""), wrongName, ""},
		{"create by the name of a node that begins like it", "POST", containers, nodeContainer("node-a-z-0123456789ab-abcdefgh23", ourNode, ""), wrongName, ""},
		{"create by a long name", "POST", containers, nodeContainer("node-a-0123456789ab-abcdefgh23x", ourNode, ""), wrongName, ""},
		{"apply what is not there yet", "PATCH", containers + "/" + fresh, nodeContainer(fresh, ourNode, ""), "", ""},
		{"apply what another has not yet", "PATCH", containers + "/node-b-0123456789ab-bcdefgh234", nodeContainer("node-b-0123456789ab-bcdefgh234", ourNode, ""), wrongName, ""},

		{"patch", "PATCH", our, label, "", ""},
		{"patch another's", "PATCH", their, label, wrongName, ""},
		{"apply another's", "PATCH", their, nodeContainer(theirs, otherNode, `,"labels":{"a":"b"}`), immutable, immutable},
		{"patch nodeName", "PATCH", our, `{"spec":{"nodeName":"node-b"}}`, immutable, immutable},
		{"patch another's nodeName to its own", "PATCH", their, `{"spec":{"nodeName":"node-a"}}`, immutable, immutable},
		{"patch the owner", "PATCH", our, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-b","uid":"` + string(other) + `"}]}}`, wrongOwner, ""},
		{"patch finalizers", "PATCH", our, `[{"op":"add","path":"/metadata/finalizers","value":["a.b/c"]}]`, finalizer, ""},
		{"patch status", "PATCH", our + "/status", running, "", ""},
		{"patch another's status", "PATCH", their + "/status", running, wrongName, ""},
		{"patch nothing of another's, to read it", "PATCH", their + "/status", `{}`, wrongName, ""},
		{"patch nodeName by status", "PATCH", our + "/status", `{"spec":{"nodeName":"node-b"}}`, "", ""}, // nothing but status is written

		{"create its agent", "POST", agents, nodeAgent(ourNode, ownedBy("v1", "Node", ourNode, uid), ""), exists, exists},
		{"create another's agent", "POST", agents, nodeAgent("node-c", "", ""), wrongName, ""},
		{"create its agent with a spec", "POST", agents, nodeAgent(ourNode, "", `,"spec":{"suspendCreates":true}`), wrongSpec, exists},
		{"create its agent with another owner", "POST", agents, nodeAgent(ourNode, ownedBy("v1", "Node", otherNode, other), ""), wrongOwner, exists},
		{"patch its agent's spec", "PATCH", agents + "/" + ourNode, suspend, wrongSpec, ""},
		{"patch its agent's label", "PATCH", agents + "/" + ourNode, label, "", ""},
		{"patch its agent's status", "PATCH", agents + "/" + ourNode + "/status", beat, "", ""},
		{"patch another agent's status", "PATCH", agents + "/" + otherNode + "/status", beat, wrongName, ""},
		{"patch another agent's spec", "PATCH", agents + "/" + otherNode, suspend, wrongName, ""},

		{"update", "PUT", our, nodeContainer(ours, ourNode, ""), "cannot update resource", unversioned},
		{"update status", "PUT", our + "/status", nodeContainer(ours, ourNode, ""), "cannot update resource", unversioned},
		{"update its agent", "PUT", agents + "/" + ourNode, nodeAgent(ourNode, "", ""), "cannot update resource", unversioned},
		{"delete", "DELETE", our, "", "cannot delete resource", ""},
		{"delete another's", "DELETE", their, "", "cannot delete resource", ""},
		{"delete its agent", "DELETE", agents + "/" + ourNode, "", "cannot delete resource", ""},
		{"delete all", "DELETE", containers, "", "cannot deletecollection resource", ""},
		{"delete all of its node", "DELETE", containers + "?fieldSelector=spec.nodeName%3Dnode-a", "", "cannot deletecollection resource", ""},
		{"delete all agents", "DELETE", agents, "", "cannot deletecollection resource", ""},
		{"get", "GET", our, "", "cannot get resource", ""},
		{"get status", "GET", our + "/status", "", "cannot get resource", ""},
		{"get its agent", "GET", agents + "/" + ourNode, "", "cannot get resource", ""},
		{"list", "GET", containers, "", "cannot list resource", ""},
		{"list agents", "GET", agents, "", "cannot list resource", ""},
		{"watch", "GET", containers + "?watch=true&timeoutSeconds=1", "", "cannot watch resource", ""},
		{"watch agents", "GET", agents + "?watch=true&timeoutSeconds=1", "", "cannot watch resource", ""},
		{"list pods", "GET", "/api/v1/pods", "", "cannot list resource", ""},
		{"get its node", "GET", "/api/v1/nodes/" + ourNode, "", "cannot get resource", ""},
		{"list secrets", "GET", "/api/v1/secrets", "", "cannot list resource", ""},
	}
}

func TestAnAgentWritesOfItsOwnNodeAlone(t *testing.T) {
	c := newClient(t, plane.Config)
	node, other := newNode(t, plane, ourNode), newNode(t, plane, otherNode)
	for name, node := range map[string]string{ours: ourNode, theirs: otherNode} {
		create(t, c, newContainer(name, node))
		create(t, c, newAgent(node))
	}
	agent, admin := agentOn(t, ourNode), restOf(t, plane.Config)
	policyIsInForce(t, agent)
	for _, a := range attempts(node.UID, other.UID) {
		t.Run(a.what, func(t *testing.T) {
			check(t, "the agent", a.send(t.Context(), agent), a.refused)
			check(t, "a cluster-admin", a.send(t.Context(), admin), a.admin)
		})
	}
}

// policyIsInForce waits until the policy forbids what it must: the API server compiles it some time after it is there.
func policyIsInForce(t *testing.T, agent rest.Interface) {
	t.Helper()
	forbidden := attempt{verb: "POST", path: "nodecontainers", body: nodeContainer(theirs, otherNode, "")}
	eventually(t, 30*time.Second, func() error {
		if err := forbidden.send(t.Context(), agent); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
			return fmt.Errorf("it is not in force: %w", err)
		}
		return nil
	})
}

// A token that is not bound to a pod, such as one of `kubectl create token`, says nothing of a node.
func TestATokenThatIsNotBoundToAPodWritesNothing(t *testing.T) {
	agent := agentOn(t, ourNode) // makes the service account, too
	clients, err := kubernetes.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	policyIsInForce(t, agent)
	request, err := clients.CoreV1().ServiceAccounts(system).CreateToken(t.Context(), "containerhook-agent",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nobody := restOf(t, plane.TokenClient(request.Status.Token))
	create(t, newClient(t, plane.Config), newAgent(ourNode))
	for _, a := range []attempt{
		{"create", "POST", "nodecontainers", nodeContainer(fresh, ourNode, ""), unbound, ""},
		{"create of no node", "POST", "nodecontainers", nodeContainer("-0123456789ab-bcdefgh234", "", ""), "Invalid", ""},
		{"create an agent", "POST", "nodecontaineragents", nodeAgent("node-c", "", ""), unbound, ""},
		{"patch an agent's status", "PATCH", "nodecontaineragents/" + ourNode + "/status", `{"status":{"version":"v1"}}`, unbound, ""},
	} {
		t.Run(a.what, func(t *testing.T) { check(t, "the token", a.send(t.Context(), nobody), a.refused) })
	}
}

// The names that the agent makes are those that the policy knows, of whatever node and container.
func TestThePolicyKnowsEveryNameThatAnAgentMakes(t *testing.T) {
	for _, node := range []string{"n", "ip-10-0-0-1.eu-west-1.compute.internal", strings.Repeat("a", 200), strings.Repeat("a", 253), strings.Repeat("a", 199) + "." + strings.Repeat("b", 53)} {
		t.Run(fmt.Sprint(len(node)), func(t *testing.T) {
			agent := agentOn(t, node)
			for _, id := range []string{"a", "0123456789abcdef0123", "Upper_Case.and+more", "-.-"} {
				name := object.Name(node, "boot", event.Key{ID: id, StartTicks: 1})
				a := attempt{verb: "POST", path: "nodecontainers", body: nodeContainer(name, node, "")}
				check(t, "the agent, with the name "+name, a.send(t.Context(), agent), "")
			}
		})
	}
}
