// Command watcher logs each container that runs and that no pod accounts for: an example of a controller of another
// project. It reads NodeContainers with the typed client that controller-runtime makes of api/v1alpha1.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func main() {
	flag.Parse() // --kubeconfig
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		ctrl.Log.Error(err, "Watching ended")
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	running := fields.OneTermEqualSelector(v1alpha1.FieldState, string(v1alpha1.StateRunning))
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Cache:   cache.Options{ByObject: map[client.Object]cache.ByObject{&v1alpha1.NodeContainer{}: {Field: running}}},
		Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	watcher := reconcile.AsReconciler(mgr.GetClient(), reconcile.ObjectReconciler[*v1alpha1.NodeContainer](watcher{}))
	if err := ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.NodeContainer{}).Complete(watcher); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

type watcher struct{}

// Reconcile is called with each container that runs, and again whenever something changes of it.
func (watcher) Reconcile(ctx context.Context, c *v1alpha1.NodeContainer) (ctrl.Result, error) {
	if pod := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionPodMatched); pod != nil && pod.Status == "False" {
		ctrl.LoggerFrom(ctx).Info("No pod accounts for a container", "node", c.Spec.NodeName, "containerID", c.Spec.ContainerID,
			"entrypoint", c.Spec.Entrypoint, "reason", pod.Reason)
	}
	return ctrl.Result{}, nil
}
