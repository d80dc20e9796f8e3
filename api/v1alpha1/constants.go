package v1alpha1

// Fields of a NodeContainer that a field selector can ask for. They filter but do not index: the API server still
// reads every object.
const (
	FieldNodeName     = "spec.nodeName"
	FieldContainerID  = "spec.containerID"
	FieldRuntimeName  = "spec.runtime.name"
	FieldType         = "spec.type"
	FieldPodNamespace = "spec.pod.namespace"
	FieldPodName      = "spec.pod.name"
	FieldPodUID       = "spec.pod.uid"
	FieldState        = "status.state"
)

// Types of a NodeContainer's conditions. The node's agent writes the first two, the controller the other two.
const (
	// ConditionObserved is True while an agent follows the container. The controller sets it to Unknown when the agent is
	// lost, back to True when it is heard of again, and to False when the node has booted since or its agents forgot it.
	ConditionObserved = "Observed"
	// ConditionFactsMissing is True where spec lacks something that the agent could not read or had to cut. Most objects
	// do not have it: nothing is lacking there.
	ConditionFactsMissing = "FactsMissing"
	// ConditionPodMatched says whether a pod accounts for the container.
	ConditionPodMatched = "PodMatched"
	// ConditionSpecMatched is False where the container has more than its pod asked for.
	ConditionSpecMatched = "SpecMatched"
)

// Reasons of ConditionObserved.
const (
	// ReasonHook means that the container's runtime was seen while it was held in execve.
	ReasonHook = "Hook"
	// ReasonListing means that the container was found in its runtime's state on disk: it was there before the agent,
	// or the hook had missed it.
	ReasonListing = "Listing"
	// ReasonRebooted means False: the node has booted since, and nothing of the container is left.
	ReasonRebooted = "Rebooted"
	// ReasonUnobserved means False: the node's agents began anew without their checkpoint, and did not find the container.
	// One of a pod has ended. Another may be where agents do not look, and keeps its state.
	ReasonUnobserved = "Unobserved"
)

// Reasons of ConditionFactsMissing.
const (
	// ReasonComplete means False: what was missing was read since.
	ReasonComplete = "Complete"
	// ReasonIncomplete means True: something could not be read; the message says what.
	ReasonIncomplete = "Incomplete"
	// ReasonTruncated means True: spec.truncated is not empty.
	ReasonTruncated = "Truncated"
)

// ReasonAgentLost is why ConditionObserved of a NodeContainer, and ConditionReady of its NodeContainerAgent, are Unknown:
// the node's agent has not been heard of for some minutes.
const ReasonAgentLost = "AgentLost"

// Reasons of ConditionPodMatched.
const (
	// ReasonMatched means True: the pod's status has this container ID.
	ReasonMatched = "Matched"
	// ReasonPending means Unknown: the pod is there, and its status does not have the container yet.
	ReasonPending = "Pending"
	// ReasonNotKubernetes means False: nothing says that the container belongs to a pod.
	ReasonNotKubernetes = "NotKubernetes"
	// ReasonPodGone means False: the pod is gone, or another one has its name.
	ReasonPodGone = "PodGone"
	// ReasonNotInPodStatus means False: the container claims a pod that does not know it.
	ReasonNotInPodStatus = "NotInPodStatus"
)

// Reasons of ConditionSpecMatched.
const (
	// ReasonAsRequested means True: the container has nothing that its pod did not ask for.
	ReasonAsRequested = "AsRequested"
	// ReasonDiffers means False; the message names each difference.
	ReasonDiffers = "Differs"
	// ReasonFactsMissing means Unknown: spec lacks something of what the container has (FactsMissing is True), and what is
	// there differs in nothing.
	ReasonFactsMissing = "FactsMissing"
)

// Types of a NodeContainerAgent's conditions.
const (
	// ConditionReady is True while the agent sees its node's containers, by the hook or by listing. The controller sets
	// it to Unknown when the agent is lost.
	ConditionReady = "Ready"
	// ConditionHooked is True while runtimes are held; where it is False containers are found by listing alone.
	ConditionHooked = "Hooked"
	// ConditionComplete is the controller's: False where a container runs by the status of its pod, and has had no
	// NodeContainer for half a minute. The message names the first of them.
	ConditionComplete = "Complete"
)

// Reasons of ConditionReady, ConditionHooked and ConditionComplete.
const (
	// ReasonListed means Ready: the node's containers were listed.
	ReasonListed = "Listed"
	// ReasonNotListed means not Ready: the node's containers have not been listed yet.
	ReasonNotListed = "NotListed"
	// ReasonFileSystemHangs means not Ready: a file system does not answer, and what is there is not known. The message
	// names the paths.
	ReasonFileSystemHangs = "FileSystemHangs"
	// ReasonHeld means Hooked: runtimes are held at their execs.
	ReasonHeld = "Held"
	// ReasonNoRuntime means not Hooked: no runtime was found. Containers are found by listing.
	ReasonNoRuntime = "NoRuntime"
	// ReasonDegraded means not Hooked; the message says why.
	ReasonDegraded = "Degraded"
	// ReasonAllReported means Complete.
	ReasonAllReported = "AllReported"
	// ReasonNotReported means not Complete; the message says of which containers there is no NodeContainer.
	ReasonNotReported = "NotReported"
)
