package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func anAgent(node string, ready, hooked metav1.ConditionStatus) *v1alpha1.NodeContainerAgent {
	return &v1alpha1.NodeContainerAgent{ObjectMeta: metav1.ObjectMeta{Name: node},
		Status: v1alpha1.NodeContainerAgentStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: ready, Reason: "X"},
			{Type: v1alpha1.ConditionHooked, Status: hooked, Reason: "Y", Message: "no BTF"},
		}}}
}

func aContainer(state v1alpha1.ContainerState, matched metav1.ConditionStatus) *v1alpha1.NodeContainer {
	return &v1alpha1.NodeContainer{ObjectMeta: metav1.ObjectMeta{Name: "n1-abc"},
		Spec: v1alpha1.NodeContainerSpec{NodeName: "n1", Pod: v1alpha1.ContainerPod{UID: "u", Namespace: "ns", Name: "p"}},
		Status: v1alpha1.NodeContainerStatus{State: state, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionPodMatched, Status: matched, Reason: v1alpha1.ReasonPending}}}}
}

// inCluster checks pod u in a cluster that has these objects and does not change.
func inCluster(t *testing.T, objects ...client.Object) (string, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&v1alpha1.NodeContainer{}, v1alpha1.FieldPodUID, func(o client.Object) []string {
			return []string{o.(*v1alpha1.NodeContainer).Spec.Pod.UID}
		}).Build()
	var out strings.Builder
	err := checkUntil(t.Context(), c, "u", time.Millisecond, &out)
	return out.String(), err
}

func TestCheckTellsWhatItFound(t *testing.T) {
	out, err := inCluster(t, anAgent("n1", metav1.ConditionTrue, metav1.ConditionTrue), aContainer(v1alpha1.StateRunning, metav1.ConditionTrue))
	want := "node n1: Ready is True (X), Hooked is True (Y) no BTF\ncontainer n1-abc: Running on n1, pod ns/p\n"
	if err != nil || out != want {
		t.Errorf("%v, %q", err, out)
	}
}

func TestCheckPassesWhereANodeIsSilent(t *testing.T) {
	if _, err := inCluster(t, anAgent("n1", metav1.ConditionUnknown, metav1.ConditionUnknown), aContainer(v1alpha1.StateRunning, metav1.ConditionTrue)); err != nil {
		t.Error(err)
	}
}

func TestCheckTellsWhatIsMissing(t *testing.T) {
	good := anAgent("n1", metav1.ConditionTrue, metav1.ConditionTrue)
	for want, objects := range map[string][]client.Object{
		"no agent has written yet":                    {aContainer(v1alpha1.StateRunning, metav1.ConditionTrue)},
		"agent of node n1: Ready is False (X)":        {anAgent("n1", metav1.ConditionFalse, metav1.ConditionTrue), aContainer(v1alpha1.StateRunning, metav1.ConditionTrue)},
		"node n2: Hooked is False (Y) no BTF":         {good, anAgent("n2", metav1.ConditionTrue, metav1.ConditionFalse), aContainer(v1alpha1.StateRunning, metav1.ConditionTrue)},
		"the pod has no NodeContainer":                {good},
		`container n1-abc: state "Created"`:           {good, aContainer(v1alpha1.StateCreated, metav1.ConditionTrue)},
		"n1-abc: PodMatched is Unknown (Pending)":     {good, aContainer(v1alpha1.StateRunning, metav1.ConditionUnknown)},
		"Ready is False (X)\nthe pod has no NodeCont": {anAgent("n1", metav1.ConditionFalse, metav1.ConditionTrue)},
	} {
		if out, err := inCluster(t, objects...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %v, %q", want, err, out)
		}
	}
}

func TestCheckWantsToKnowThePod(t *testing.T) {
	for _, args := range [][]string{nil, {"--pod-uid=u", "more"}, {"--no-such-flag"}} {
		if err := check(context.Background(), args); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
