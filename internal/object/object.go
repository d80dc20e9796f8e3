// Package object says what is published of one container: of a event.Event it makes a NodeContainer.
//
//	event.Event ─► facts, pod, security, mounts ─► spec, once   ┐
//	           ─► status ─► merged, never backwards            ├─► NodeContainer
//	           ─► name                                         ┘
//
// All of it are functions of values. What config.json holds is not trusted and not all published: redact.go says what never
// leaves the node, and bounds what does.
package object

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
)

// Options are what objects say of their node, and what their user wants to know besides.
type Options struct {
	NodeName string // required: a DNS subdomain, as a Node's name is
	BootID   string // required: /proc/sys/kernel/random/boot_id

	// HostNamespaces returns those of the node's process 1. Of one that is 0 the containers' status.hostNamespaces do not
	// copy; of none by default. It is called for each event.
	HostNamespaces func() event.Namespaces

	Annotations []string         // keys of annotations to copy into objects, at most 16; default none
	Now         func() time.Time // when a condition changed; default time.Now
}

// New makes the object of a container from its first event, the only one with its config.json. Its status is still empty.
func New(e *event.Event, o *Options) *v1alpha1.NodeContainer {
	return &v1alpha1.NodeContainer{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.NodeContainerKind},
		ObjectMeta: metav1.ObjectMeta{Name: Name(o.NodeName, o.BootID, e.Key())},
		Spec:       specOf(e, o),
	}
}

// Next returns the status of an object after an event, with all that was known before. source is that of the container's
// first event, problem why facts are missing, or empty.
func Next(before *v1alpha1.NodeContainer, e *event.Event, source event.Source, problem string, o *Options) v1alpha1.NodeContainerStatus {
	host, now := event.Namespaces{}, time.Now
	if o.HostNamespaces != nil {
		host = o.HostNamespaces()
	}
	if o.Now != nil {
		now = o.Now
	}
	status := merged(before.Status, statusOf(e, host))
	status.Conditions = withConditions(before.Status.Conditions, source, problem, len(before.Spec.Truncated) > 0, now())
	return status
}

// IsLate reports whether an event of a container in state came after it was known to be further: a container never goes
// back.
func IsLate(state event.State, known v1alpha1.ContainerState) bool {
	return rank[v1alpha1.ContainerState(state)] < rank[known]
}
