package api

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	apply "github.com/containerhook/containerhook/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/containerhook/containerhook/test/api/controlplane"
)

// BenchmarkCompact writes a condition of two objects by turns: of one as the controller, whose managedFields the policy of
// config/compact takes out, of the other as somebody whose managedFields stay. An op is one write of each.
func BenchmarkCompact(b *testing.B) {
	const node = "node-compact"
	if _, err := plane.Node(b.Context(), node); err != nil {
		b.Fatal(err)
	}
	if err := plane.Install(b.Context(), "compact"); err != nil {
		b.Fatal(err)
	}
	clientOf := func(account string) client.Client {
		config, err := plane.PodClient(b.Context(), system, account, node)
		if err != nil {
			b.Fatal(err)
		}
		config.QPS = -1
		return newClient(b, config)
	}
	unlimited := rest.CopyConfig(plane.Config)
	unlimited.QPS = -1
	writers := map[string]client.Client{"with": clientOf("containerhook-controller"), "without": newClient(b, unlimited)}
	agent := clientOf("containerhook-agent")
	eventually(b, 30*time.Second, func() error { return controlplane.CompactInForce(b.Context(), agent, node) })

	took := map[string][]time.Duration{}
	for name := range writers {
		if err := writers["without"].Create(b.Context(), newContainer(name, node)); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		for name, w := range writers {
			condition := applymeta.Condition().WithType(v1alpha1.ConditionPodMatched).WithStatus(metav1.ConditionTrue).
				WithReason(fmt.Sprintf("Write%d", i)).WithMessage("").WithLastTransitionTime(metav1.Unix(1e9, 0))
			status := apply.NodeContainer(name).WithStatus(apply.NodeContainerStatus().WithConditions(condition))
			began := time.Now()
			if err := w.Status().Apply(b.Context(), status, client.FieldOwner("bench"), client.ForceOwnership); err != nil {
				b.Fatal(err)
			}
			took[name] = append(took[name], time.Since(began))
		}
	}
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-p50-"+name)
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "µs-p99-"+name)
	}
}
