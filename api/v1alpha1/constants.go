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
	// ConditionObserved is True while an agent follows the container, Unknown when its node's agent is lost.
	ConditionObserved = "Observed"
	// ConditionFactsComplete is False where spec lacks something that the agent could not read or had to cut.
	ConditionFactsComplete = "FactsComplete"
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
)

// Reasons of ConditionFactsComplete.
const (
	// ReasonComplete means that everything was read.
	ReasonComplete = "Complete"
	// ReasonIncomplete means that something could not be read; the message says what.
	ReasonIncomplete = "Incomplete"
	// ReasonTruncated means that spec.truncated is not empty.
	ReasonTruncated = "Truncated"
)
