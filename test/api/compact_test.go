package api

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

// With config/compact what agent and controller write keeps no managedFields. Each still leaves the other's fields as
// they are, and writes nothing where nothing changes. What somebody else writes is kept as ever.
func TestWhatIsOursKeepsNoManagedFields(t *testing.T) {
	if err := plane.Install(t.Context(), "compact"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kubectl(t, "delete", "-k", "../../config/compact") })
	newNode(t, plane, ourNode)
	clients := map[string]client.Client{"cluster-admin": newClient(t, plane.Config)}
	for _, account := range []string{"containerhook-agent", "containerhook-controller"} {
		config, err := plane.PodClient(t.Context(), system, account, ourNode)
		if err != nil {
			t.Fatal(err)
		}
		clients[account] = newClient(t, config)
	}
	admin := clients["cluster-admin"]
	eventually(t, 30*time.Second, func() error {
		return controlplane.CompactInForce(t.Context(), clients["containerhook-agent"], ourNode)
	})
	if err := clients["containerhook-agent"].Create(t.Context(), newContainer(ours, ourNode)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kubectl(t, "delete", "nodecontainer", ours) })

	status := func(account, kind string, state v1alpha1.ContainerState) func() error {
		status := apply.NodeContainerStatus().WithConditions(applymeta.Condition().WithType(kind).WithStatus(metav1.ConditionTrue).
			WithReason("Test").WithMessage("").WithLastTransitionTime(metav1.Unix(1e9, 0)))
		if state != "" {
			status.WithState(state)
		}
		return func() error {
			return clients[account].Status().Apply(t.Context(), apply.NodeContainer(ours).WithStatus(status),
				client.FieldOwner(account), client.ForceOwnership)
		}
	}
	label := func() error {
		c := newContainer(ours, ourNode)
		return admin.Patch(t.Context(), c, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`)))
	}
	version := ""
	for _, step := range []struct {
		what                 string
		do                   func() error
		conditions, managers int
		changes              bool
	}{
		{"the agent has created it", func() error { return nil }, 0, 0, true},
		{"the agent writes its condition", status("containerhook-agent", v1alpha1.ConditionObserved, v1alpha1.StateRunning), 1, 0, true},
		{"the controller writes its own", status("containerhook-controller", v1alpha1.ConditionPodMatched, ""), 2, 0, true},
		{"the controller writes it again", status("containerhook-controller", v1alpha1.ConditionPodMatched, ""), 2, 0, false},
		{"the agent writes the end", status("containerhook-agent", v1alpha1.ConditionObserved, v1alpha1.StateStopped), 2, 0, true},
		{"the agent writes it again", status("containerhook-agent", v1alpha1.ConditionObserved, v1alpha1.StateStopped), 2, 0, false},
		{"somebody applies another condition", status("cluster-admin", "Audited", ""), 3, 2, true}, // and one for what was there
		{"somebody sets a label", label, 3, 3, true},
		{"the controller writes its own after that", status("containerhook-controller", v1alpha1.ConditionSpecMatched, ""), 4, 0, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		var c v1alpha1.NodeContainer
		if err := admin.Get(t.Context(), client.ObjectKey{Name: ours}, &c); err != nil {
			t.Fatal(err)
		}
		if len(c.Status.Conditions) != step.conditions || len(c.ManagedFields) != step.managers || (c.ResourceVersion != version) != step.changes {
			t.Errorf("%s: there are %d conditions and %d managers, and resourceVersion was %s: %+v", step.what,
				len(c.Status.Conditions), len(c.ManagedFields), version, c)
		}
		version = c.ResourceVersion
	}
}
