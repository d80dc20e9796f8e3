package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeContainer is one OCI container on one node, whoever started it: the kubelet, an engine, or a shell. Its node's
// agent makes it while the container's runtime is still held in execve, and follows it to its exit code. It is one
// instance: the same container ID created again is another NodeContainer.
//
// It never holds the container's environment, its arguments past the first, or its mount options.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nctr,categories=containers
// +kubebuilder:selectablefield:JSONPath=`.spec.nodeName`
// +kubebuilder:selectablefield:JSONPath=`.spec.containerID`
// +kubebuilder:selectablefield:JSONPath=`.spec.runtime.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.type`
// +kubebuilder:selectablefield:JSONPath=`.spec.pod.namespace`
// +kubebuilder:selectablefield:JSONPath=`.spec.pod.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.pod.uid`
// +kubebuilder:selectablefield:JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Runtime",type=string,JSONPath=`.spec.runtime.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.pod.namespace`
// +kubebuilder:printcolumn:name="Pod",type=string,JSONPath=`.spec.pod.name`
// +kubebuilder:printcolumn:name="Container",type=string,JSONPath=`.spec['pod.container','name']`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="ID",type=string,priority=1,JSONPath=`.spec.containerID`
// +kubebuilder:printcolumn:name="Image",type=string,priority=1,JSONPath=`.spec.image.name`
// +kubebuilder:printcolumn:name="PID",type=integer,priority=1,JSONPath=`.status.pid`
// +kubebuilder:printcolumn:name="Exit",type=integer,priority=1,JSONPath=`.status.exitCode`
// +kubebuilder:printcolumn:name="Started",type=date,priority=1,JSONPath=`.status.startTime`
type NodeContainer struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata. The name is made of the node's name, the first characters of the
	// container ID, and a hash that is another one for each instance.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the container was created with. It never changes.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec is immutable"
	// +required
	Spec NodeContainerSpec `json:"spec,omitzero"`

	// status is how far the container has come.
	// +optional
	Status NodeContainerStatus `json:"status,omitzero"`
}

// NodeContainerList is a list of NodeContainers.
//
// +kubebuilder:object:root=true
type NodeContainerList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list's metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the NodeContainers.
	Items []NodeContainer `json:"items"`
}

// ContainerType says what a container is for.
// +kubebuilder:validation:Enum=Container;Sandbox
type ContainerType string

const (
	// TypeContainer is a container that runs what somebody asked for.
	TypeContainer ContainerType = "Container"
	// TypeSandbox is a pod's sandbox: it holds the pod's namespaces and runs nothing of the user's.
	TypeSandbox ContainerType = "Sandbox"
)

// NodeContainerSpec is what a container was created with: what its runtime was asked for, and what its bundle's config.json
// asked for. An empty field means that it was not asked for; or that it could not be read, where condition FactsMissing
// is True.
// +structType=atomic
type NodeContainerSpec struct {
	// nodeName is the name of the node on which the container is.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	NodeName string `json:"nodeName,omitempty"`

	// bootID is the node's boot ID when the container was created. After a reboot the node has another one, and the
	// container is gone.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	BootID string `json:"bootID,omitempty"`

	// containerID is the container's ID, as its runtime was given it. It is not unique: it can be used again, and by
	// another runtime.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	ContainerID string `json:"containerID,omitempty"`

	// name is the engine's own name for the container (podman --name, nerdctl --name). A name within a pod is
	// pod.container.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// type is Container, or Sandbox for the container that holds a pod's namespaces.
	// +required
	Type ContainerType `json:"type,omitempty"`

	// runtime is the OCI runtime that made the container.
	// +optional
	Runtime ContainerRuntime `json:"runtime,omitzero"`

	// bundle is the absolute path of the directory of config.json, as the runtime sees it. It also says which engine the
	// container belongs to: what is below /run/containerd/io.containerd.runtime.v2.task/moby is docker's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Bundle string `json:"bundle,omitempty"`

	// cgroupsPath is the cgroup that config.json names: a path, or "slice:prefix:name" for systemd.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	CgroupsPath string `json:"cgroupsPath,omitempty"`

	// pod is the pod that the container claims to belong to, by its annotations or its cgroup. Condition PodMatched
	// says whether there is such a pod, and whether it knows the container.
	// +optional
	Pod ContainerPod `json:"pod,omitzero"`

	// image is the image of the container, where its engine says so in an annotation: docker and podman do not.
	// +optional
	Image ContainerImage `json:"image,omitzero"`

	// entrypoint is the first word of the command that the container runs. The others are never recorded.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Entrypoint string `json:"entrypoint,omitempty"`

	// user is whom the command runs as, in numbers of the container's user namespace.
	// +optional
	User ContainerUser `json:"user,omitzero"`

	// capabilities are those that the container has or can gain: the union of its bounding, permitted and effective
	// sets, sorted, without "CAP_" as in a pod's securityContext.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=32
	// +listType=atomic
	// +optional
	Capabilities []string `json:"capabilities,omitempty"`

	// security is how far the container is confined.
	// +optional
	Security ContainerSecurity `json:"security,omitzero"`

	// mounts are those that reach into the node or outlive the container. Left out are kernel filesystems (proc, sysfs,
	// tmpfs, devpts, mqueue, cgroup), and what engine and kubelet make for this container or its pod alone and remove
	// with it: hosts, hostname, resolv.conf, /dev/shm, the termination log, and volumes of the kinds emptyDir,
	// configMap, secret, downwardAPI and projected.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Mounts []ContainerMount `json:"mounts,omitempty"`

	// devices are the node's devices that were added. Not listed where security.allDevices is true.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Devices []ContainerDevice `json:"devices,omitempty"`

	// hooks are the OCI hooks: programs that the runtime runs for the container, some of them outside of it.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Hooks []ContainerHook `json:"hooks,omitempty"`

	// resources are the container's limits at its creation.
	// +optional
	Resources ContainerResources `json:"resources,omitzero"`

	// annotations are those annotations of config.json that the agent copies; none by default.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`

	// truncated are the fields of spec in which something was cut off, or replaced because it cannot be printed.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=set
	// +optional
	Truncated []string `json:"truncated,omitempty"`
}

// ContainerState is how far a container has come, in the words of the OCI runtime-spec.
// +kubebuilder:validation:Enum=Creating;Created;Running;Stopped
type ContainerState string

const (
	// StateCreating means that the runtime prepares the container.
	StateCreating ContainerState = "Creating"
	// StateCreated means that the container is prepared and its command has not begun.
	StateCreated ContainerState = "Created"
	// StateRunning means that its command has begun.
	StateRunning ContainerState = "Running"
	// StateStopped means that its init process is dead, or never came to be.
	StateStopped ContainerState = "Stopped"
)

// StopReason says why a container is Stopped.
// +kubebuilder:validation:Enum=Completed;Error;OOMKilled;CreateFailed;ExitUnknown
type StopReason string

const (
	// StopCompleted means exit code 0.
	StopCompleted StopReason = "Completed"
	// StopError means another exit code, or a signal.
	StopError StopReason = "Error"
	// StopOOMKilled means that the init process was killed for want of memory.
	StopOOMKilled StopReason = "OOMKilled"
	// StopCreateFailed means that the runtime gave up before the command began; exitCode is the runtime's.
	StopCreateFailed StopReason = "CreateFailed"
	// StopExitUnknown means that the container was found dead and nobody saw its end: there is no exit code.
	StopExitUnknown StopReason = "ExitUnknown"
)

// NodeContainerStatus is how far a container has come. A state never goes back.
// +kubebuilder:validation:MinProperties=1
type NodeContainerStatus struct {
	// conditions are Observed and, only where facts are missing, FactsMissing, written by the node's agent; PodMatched
	// and SpecMatched, written by the controller.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// state is Creating, Created, Running or Stopped.
	// +optional
	State ContainerState `json:"state,omitempty"`

	// pid is the process ID of the container's init process in the node's PID namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	PID int32 `json:"pid,omitempty"`

	// cgroupID is the ID of the container's cgroup, as bpf_get_current_cgroup_id returns it: its inode number.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CgroupID int64 `json:"cgroupID,omitempty"`

	// namespaces are the inode numbers of the namespaces of the container's init process, as in /proc/<pid>/ns.
	// +optional
	Namespaces ContainerNamespaces `json:"namespaces,omitzero"`

	// hostNamespaces are those of its namespaces that are the node's own, by their inode numbers.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	HostNamespaces []NamespaceType `json:"hostNamespaces,omitempty"`

	// createTime is when the runtime began to create the container.
	// +optional
	CreateTime *metav1.MicroTime `json:"createTime,omitempty"`

	// startTime is when the container's command began.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`

	// finishTime is when the last thread of its init process ended.
	// +optional
	FinishTime *metav1.MicroTime `json:"finishTime,omitempty"`

	// exitCode is the exit code of its init process, 128 and the signal where a signal ended it. Empty while it runs,
	// and where nobody saw its end.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`

	// signal is the number of the signal that ended its init process.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	// +optional
	Signal int32 `json:"signal,omitempty"`

	// oomKilled is true where a process of the container was killed for want of memory, its init process or another.
	// +optional
	OOMKilled bool `json:"oomKilled,omitempty"`

	// reason says why the container is Stopped.
	// +optional
	Reason StopReason `json:"reason,omitempty"`
}
