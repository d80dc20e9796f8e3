// Package v1alpha1 is the API of containerhook.io: what runs on each node, as objects of its own. It imports
// apimachinery only, so that any controller can take it; applyconfiguration, below it, imports client-go too.
//
// A controller of another project registers the kinds with AddToScheme and reads them with a typed client, such as
// controller-runtime makes. Whether a pod accounts for a container is in its conditions:
//
//	scheme := runtime.NewScheme()
//	err := v1alpha1.AddToScheme(scheme)
//	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme})
//	…
//	var list v1alpha1.NodeContainerList
//	err := c.List(ctx, &list, client.MatchingFields{v1alpha1.FieldNodeName: node})
//	if meta.IsStatusConditionFalse(list.Items[0].Status.Conditions, v1alpha1.ConditionPodMatched) { … }
//
// The constants Field… are all fields that a field selector can ask the API server for; a cache needs an index of each
// that it is asked for. Condition… and Reason… are the types and reasons of conditions: rely on them, and never on a
// message. What a controller adds it should add as annotations, labels, or conditions of types of its own, by
// server-side apply under a field manager of its own:
//
//	checked := applymeta.Condition().WithType("example.com/Checked")…
//	status := apply.NodeContainer(c.Name).WithUID(c.UID).
//		WithStatus(apply.NodeContainerStatus().WithConditions(checked))
//	err := c.Status().Apply(ctx, status, client.FieldOwner("example.com"), client.ForceOwnership)
//
// With the UID it never makes an object anew, nor writes to another instance. At most eight conditions fit in.
// A NodeContainer is deleted some minutes after its container has ended, and has no finalizers: watch it for as long as
// it matters, and keep what must be kept. examples/watcher is a whole controller.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +groupName=containerhook.io
package v1alpha1
