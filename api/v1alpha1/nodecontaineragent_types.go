package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeContainerAgent is the agent of one node, as it sees itself. Its name is the node's.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=containers
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Hooked",type=string,JSONPath=`.status.conditions[?(@.type=="Hooked")].status`
// +kubebuilder:printcolumn:name="Live",type=integer,JSONPath=`.status.liveContainers`
// +kubebuilder:printcolumn:name="Missed",type=integer,JSONPath=`.status.missedContainers`
// +kubebuilder:printcolumn:name="Late",type=integer,JSONPath=`.status.deadlineExceeded`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Complete",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Hooked")].message`
type NodeContainerAgent struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata. The name is the node's.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the controller wants of the agent.
	// +optional
	Spec NodeContainerAgentSpec `json:"spec,omitzero"`

	// status is how the agent does.
	// +optional
	Status NodeContainerAgentStatus `json:"status,omitzero"`
}

// NodeContainerAgentList is a list of NodeContainerAgents.
//
// +kubebuilder:object:root=true
type NodeContainerAgentList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the NodeContainerAgents.
	Items []NodeContainerAgent `json:"items"`
}

// NodeContainerAgentSpec is what the controller wants of the agent. The agent reads it in the answers to its own writes.
// +kubebuilder:validation:MinProperties=1
type NodeContainerAgentSpec struct {
	// suspendCreates has the agent make no new NodeContainer, while it goes on to update those that there are. The
	// controller sets it on every agent when the cluster has too many NodeContainers.
	// +optional
	SuspendCreates bool `json:"suspendCreates,omitempty"`
}

// NodeContainerAgentStatus is how an agent does. The counters begin with the agent's process.
// +kubebuilder:validation:MinProperties=1
type NodeContainerAgentStatus struct {
	// conditions are Ready and Hooked, which the agent writes, and Complete, which the controller does.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// version is the agent's version.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Version string `json:"version,omitempty"`

	// bootID is the node's boot ID.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	BootID string `json:"bootID,omitempty"`

	// observedSince is since when this node's agents, one after the other, have known all of its containers. It begins anew
	// where an agent finds no checkpoint of the one before it: a container of the usual runtimes that was reported before,
	// and has not been reported since, ended in between. Empty while some of the runtimes' state cannot be read.
	// +optional
	ObservedSince *metav1.Time `json:"observedSince,omitempty"`

	// heartbeatTime is when the agent wrote this last. It does so once a minute, and when a condition changes.
	// +optional
	HeartbeatTime *metav1.Time `json:"heartbeatTime,omitempty"`

	// runtimes are the paths of the runtime binaries that are held.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	// +listType=set
	// +optional
	Runtimes []string `json:"runtimes,omitempty"`

	// lastListTime is when the state of all runtimes was listed last.
	// +optional
	LastListTime *metav1.Time `json:"lastListTime,omitempty"`

	// liveContainers is how many containers of the node are not Stopped.
	// +kubebuilder:validation:Minimum=0
	// +optional
	LiveContainers *int32 `json:"liveContainers,omitempty"`

	// missedContainers is how many containers the hook had not seen and a listing found.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MissedContainers *int64 `json:"missedContainers,omitempty"`

	// failedCreates is how many containers ended as CreateFailed.
	// +kubebuilder:validation:Minimum=0
	// +optional
	FailedCreates *int64 `json:"failedCreates,omitempty"`

	// deadlineExceeded is how many held execs the deadline let go.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DeadlineExceeded *int64 `json:"deadlineExceeded,omitempty"`

	// droppedContainers is how many containers were left out because the node had too many.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DroppedContainers *int64 `json:"droppedContainers,omitempty"`

	// suppressedContainers is how many containers have no NodeContainer now because spec.suspendCreates is true.
	// +kubebuilder:validation:Minimum=0
	// +optional
	SuppressedContainers *int32 `json:"suppressedContainers,omitempty"`
}
