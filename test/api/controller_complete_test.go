package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/controller"
)

// TestTheControllerSaysWhichContainersHaveNoObject: one of two that run by their pods' status is not there, until it is; then
// the other is deleted.
func TestTheControllerSaysWhichContainersHaveNoObject(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "node-c")
	newShop(t, c)
	startController(t, plane, func(o *controller.Options) { o.ReportGrace = time.Second })
	reported, missing := newPod("reported", "node-c", "one"), newPod("missing", "node-c", "two")
	tell(t, c, reported)
	tell(t, c, missing)
	tell(t, c, newContainerOf(reported, "reported", "node-c", "one"))
	create(t, c, newAgent("node-c"))
	complete := func(reason, names string) func() error {
		return func() error {
			patchStatus(t, c, newAgent("node-c"), fmt.Sprintf(`{"status":{"heartbeatTime":%q}}`, time.Now().UTC().Format(time.RFC3339)))
			agent := newAgent("node-c")
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(agent), agent); err != nil {
				return err
			}
			got := meta.FindStatusCondition(agent.Status.Conditions, v1alpha1.ConditionComplete)
			if got == nil || got.Reason != reason || !strings.Contains(got.Message, names) {
				return fmt.Errorf("Complete is %+v, not %s of %q", got, reason, names)
			}
			return nil
		}
	}
	eventually(t, 30*time.Second, complete(v1alpha1.ReasonNotReported, "no NodeContainer of shop/missing/main"))

	late := newContainerOf(missing, "late", "node-c", "two")
	tell(t, c, late)
	eventually(t, 30*time.Second, complete(v1alpha1.ReasonAllReported, ""))

	if err := c.Delete(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, complete(v1alpha1.ReasonNotReported, "shop/missing/main"))
}
