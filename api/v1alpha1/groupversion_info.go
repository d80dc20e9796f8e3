package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "containerhook.io", Version: "v1alpha1"}

// SchemeGroupVersion is GroupVersion, by the name that generated code knows.
var SchemeGroupVersion = GroupVersion

// The kinds, as in their TypeMeta.
const (
	NodeContainerKind      = "NodeContainer"
	NodeContainerAgentKind = "NodeContainerAgent"
)

var (
	// SchemeBuilder collects what registers this package's kinds.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme registers this package's kinds with a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &NodeContainer{}, &NodeContainerList{}, &NodeContainerAgent{}, &NodeContainerAgentList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
