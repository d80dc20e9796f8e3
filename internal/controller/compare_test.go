package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestFactsThatAreMissingAreNotJudged(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web"}}}}
	for name, test := range map[string]struct {
		facts  string // the reason for which FactsMissing is True, or empty
		image  string
		status metav1.ConditionStatus
		reason string
	}{
		"all facts":                        {"", "web", metav1.ConditionTrue, v1alpha1.ReasonAsRequested},
		"all facts, another image":         {"", "miner", metav1.ConditionFalse, v1alpha1.ReasonDiffers},
		"none":                             {v1alpha1.ReasonIncomplete, "", metav1.ConditionUnknown, v1alpha1.ReasonFactsMissing},
		"some of another image":            {v1alpha1.ReasonIncomplete, "miner", metav1.ConditionUnknown, v1alpha1.ReasonFactsMissing},
		"some were cut":                    {v1alpha1.ReasonTruncated, "web", metav1.ConditionUnknown, v1alpha1.ReasonFactsMissing},
		"some were cut, and others differ": {v1alpha1.ReasonTruncated, "miner", metav1.ConditionFalse, v1alpha1.ReasonDiffers},
	} {
		c := &v1alpha1.NodeContainer{}
		c.Spec.Type, c.Spec.Pod.Container, c.Spec.Image.Name = v1alpha1.TypeContainer, "main", test.image
		if test.facts != "" {
			c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFactsMissing, Status: metav1.ConditionTrue, Reason: test.facts}}
		}
		if got := compare(c, pod); got.status != test.status || got.reason != test.reason {
			t.Errorf("%s: %+v, want %s %s", name, got, test.status, test.reason)
		}
	}
}
