package v1alpha1

// AnnotationValue is the value of an annotation.
// +kubebuilder:validation:MaxLength=256
type AnnotationValue string

// ContainerRuntime is an OCI runtime.
// +kubebuilder:validation:MinProperties=1
type ContainerRuntime struct {
	// name is the base name of the runtime's binary: runc, crun.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Name string `json:"name,omitempty"`

	// handler is the name that a RuntimeClass has for it, where the engine says so in an annotation.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Handler string `json:"handler,omitempty"`

	// path is the path of the runtime's binary on the node.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Path string `json:"path,omitempty"`
}

// ContainerPod is the pod that a container claims to belong to.
// +kubebuilder:validation:MinProperties=1
type ContainerPod struct {
	// namespace is the pod's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// name is the pod's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// uid is the pod's UID. A static pod has the hash of its manifest here, not the UID of its mirror pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	UID string `json:"uid,omitempty"`

	// container is the name of the container in the pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Container string `json:"container,omitempty"`
}

// ContainerImage is an image.
// +kubebuilder:validation:MinProperties=1
type ContainerImage struct {
	// name is the image as the engine was asked for it, with its tag or digest.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Name string `json:"name,omitempty"`

	// digest is the digest of the image, where its name has one.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Digest string `json:"digest,omitempty"`
}

// ContainerUser is a user and its groups.
type ContainerUser struct {
	// uid is the user ID.
	// +kubebuilder:validation:Minimum=0
	// +required
	UID *int64 `json:"uid,omitempty"`

	// gid is the primary group ID.
	// +kubebuilder:validation:Minimum=0
	// +required
	GID *int64 `json:"gid,omitempty"`

	// supplementalGroups are further groups.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	SupplementalGroups []int64 `json:"supplementalGroups,omitempty"`
}

// SeccompMode says whether system calls are filtered.
// +kubebuilder:validation:Enum=Unconfined;Filtered
type SeccompMode string

const (
	// SeccompUnconfined means that there is no filter, or one that lets everything pass.
	SeccompUnconfined SeccompMode = "Unconfined"
	// SeccompFiltered means that there is a filter.
	SeccompFiltered SeccompMode = "Filtered"
)

// NamespaceType is a kind of Linux namespace.
// +kubebuilder:validation:Enum=Cgroup;IPC;Mount;Network;PID;UTS
type NamespaceType string

// The namespaces of a NodeContainer that can be the node's own. The user namespace is security.userNamespace.
const (
	NamespaceCgroup  NamespaceType = "Cgroup"
	NamespaceIPC     NamespaceType = "IPC"
	NamespaceMount   NamespaceType = "Mount"
	NamespaceNetwork NamespaceType = "Network"
	NamespacePID     NamespaceType = "PID"
	NamespaceUTS     NamespaceType = "UTS"
)

// ContainerSecurity is how far a container is confined.
// +kubebuilder:validation:MinProperties=1
type ContainerSecurity struct {
	// privileged is true where nothing of the usual confinement is left: the container has SYS_ADMIN, all devices, no
	// seccomp filter, and no masked or read-only kernel path. That is what privileged: true makes of it.
	// +optional
	Privileged bool `json:"privileged,omitempty"`

	// rootless is true where the runtime itself did not run as the node's root.
	// +optional
	Rootless bool `json:"rootless,omitempty"`

	// userNamespace is true where the container has a user namespace that is not the node's: its root is nobody
	// outside.
	// +optional
	UserNamespace bool `json:"userNamespace,omitempty"`

	// noNewPrivileges is true where setuid programs and file capabilities give no privilege.
	// +optional
	NoNewPrivileges bool `json:"noNewPrivileges,omitempty"`

	// readOnlyRootFilesystem is true where the container's root filesystem cannot be written to.
	// +optional
	ReadOnlyRootFilesystem bool `json:"readOnlyRootFilesystem,omitempty"`

	// allDevices is true where the container may use every device of the node.
	// +optional
	AllDevices bool `json:"allDevices,omitempty"`

	// seccomp is Filtered, or Unconfined where every system call is allowed.
	// +optional
	Seccomp SeccompMode `json:"seccomp,omitempty"`

	// appArmorProfile is the name of the AppArmor profile.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	AppArmorProfile string `json:"appArmorProfile,omitempty"`

	// seLinuxLabel is the SELinux label of the process.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	SELinuxLabel string `json:"seLinuxLabel,omitempty"`

	// hostNamespaces are those of the node's namespaces that config.json leaves to the container. A container of a pod
	// joins its sandbox's namespaces by path, whatever they are; what it really shares is in status.hostNamespaces.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	// +optional
	HostNamespaces []NamespaceType `json:"hostNamespaces,omitempty"`
}

// MountPropagation says which way mounts made later are seen, in the words of a pod's volumeMounts.
// +kubebuilder:validation:Enum=HostToContainer;Bidirectional
type MountPropagation string

// How mounts made later are seen. A private mount has no propagation.
const (
	PropagationHostToContainer MountPropagation = "HostToContainer" // slave
	PropagationBidirectional   MountPropagation = "Bidirectional"   // shared
)

// ContainerMount is a mount.
type ContainerMount struct {
	// destination is the path in the container.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Destination string `json:"destination,omitempty"`

	// source is the path on the node. Empty where the source is no absolute path.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Source string `json:"source,omitempty"`

	// type is the type of the filesystem. Empty for a bind mount.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Type string `json:"type,omitempty"`

	// readOnly is true where the container cannot write to it.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`

	// propagation is HostToContainer or Bidirectional. Empty for a private mount.
	// +optional
	Propagation MountPropagation `json:"propagation,omitempty"`
}

// ContainerDevice is a device node.
type ContainerDevice struct {
	// path is the device's path in the container.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Path string `json:"path,omitempty"`

	// type is c for a character device, u for an unbuffered one, b for a block device, and p for a FIFO. Empty where
	// config.json says something else.
	// +optional
	Type DeviceType `json:"type,omitempty"`

	// major is the device's major number.
	// +optional
	Major *int64 `json:"major,omitempty"`

	// minor is the device's minor number.
	// +optional
	Minor *int64 `json:"minor,omitempty"`
}

// DeviceType is a type of device, in the letters of the OCI runtime-spec.
// +kubebuilder:validation:Enum=c;u;b;p
type DeviceType string

// The types of devices.
const (
	DeviceCharacter  DeviceType = "c"
	DeviceUnbuffered DeviceType = "u"
	DeviceBlock      DeviceType = "b"
	DeviceFIFO       DeviceType = "p"
)

// HookStage is when the runtime runs a hook.
// +kubebuilder:validation:Enum=Prestart;CreateRuntime;CreateContainer;StartContainer;Poststart;Poststop
type HookStage string

// The stages of the OCI runtime-spec's hooks.
const (
	HookPrestart        HookStage = "Prestart"
	HookCreateRuntime   HookStage = "CreateRuntime"
	HookCreateContainer HookStage = "CreateContainer"
	HookStartContainer  HookStage = "StartContainer"
	HookPoststart       HookStage = "Poststart"
	HookPoststop        HookStage = "Poststop"
)

// ContainerHook is an OCI hook. Its arguments and environment are never recorded.
type ContainerHook struct {
	// stage is when the hook runs.
	// +required
	Stage HookStage `json:"stage,omitempty"`

	// path is the hook's program. The runtime runs hooks of the stages CreateContainer and StartContainer in the
	// container's namespaces, the others on the node.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Path string `json:"path,omitempty"`
}

// ContainerResources are limits. What is empty is not limited.
// +kubebuilder:validation:MinProperties=1
type ContainerResources struct {
	// memoryLimitBytes is the limit of memory, in bytes.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MemoryLimitBytes int64 `json:"memoryLimitBytes,omitempty"`

	// cpuShares is the relative weight of the container when CPUs are busy: 1024 is one CPU's request.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CPUShares int64 `json:"cpuShares,omitempty"`

	// cpuQuota is the CPU time, in microseconds, that the container can use in each period.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CPUQuota int64 `json:"cpuQuota,omitempty"`

	// cpuPeriod is the length of a period, in microseconds, where there is a quota and it is not the kernel's own: 100000.
	// +kubebuilder:validation:Minimum=1
	// +optional
	CPUPeriod int64 `json:"cpuPeriod,omitempty"`

	// pidsLimit is how many processes and threads the container can have.
	// +kubebuilder:validation:Minimum=1
	// +optional
	PIDsLimit int64 `json:"pidsLimit,omitempty"`
}

// ContainerNamespaces are inode numbers of namespaces.
// +structType=atomic
// +kubebuilder:validation:MinProperties=1
type ContainerNamespaces struct {
	// cgroup is the cgroup namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Cgroup int64 `json:"cgroup,omitempty"`

	// ipc is the IPC namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	IPC int64 `json:"ipc,omitempty"`

	// mount is the mount namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Mount int64 `json:"mount,omitempty"`

	// network is the network namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Network int64 `json:"network,omitempty"`

	// pid is the PID namespace.
	// +kubebuilder:validation:Minimum=1
	// +optional
	PID int64 `json:"pid,omitempty"`

	// user is the user namespace. It is left out where it is the initial one, which has the same number everywhere:
	// 4026531837.
	// +kubebuilder:validation:Minimum=1
	// +optional
	User int64 `json:"user,omitempty"`

	// uts is the UTS namespace: the host name.
	// +kubebuilder:validation:Minimum=1
	// +optional
	UTS int64 `json:"uts,omitempty"`
}
