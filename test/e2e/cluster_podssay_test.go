package e2e

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// configHash is the annotation of a mirror pod with the UID that the kubelet gave to its static pod.
const configHash = "kubernetes.io/config.hash"

// podsSay adds to what the runtimes of a node say what the pods there say: which containers they account for. On nodes
// that are not ours it is all that is known.
func podsSay(pods []corev1.Pod, all map[string]container) {
	named := map[string]bool{}
	for i := range pods {
		for _, s := range statusesOf(&pods[i]) {
			for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
				id, said := instanceOf(&pods[i], s, state)
				if id == "" {
					continue
				}
				named[id] = true
				c, ok := all[id]
				switch {
				case !local:
					all[id] = said
				case ok && c.state == said.state: // the kubelet may lag behind its runtime
					c.pod, c.podMatched, c.specMatched = said.pod, said.podMatched, said.specMatched
					all[id] = c
				}
			}
		}
	}

	for id, c := range all {
		isThere := c.pod.UID != "" && slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return string(p.UID) == c.pod.UID || p.Annotations[configHash] == c.pod.UID
		})
		switch {
		case isThere && c.sandbox: // which no status names
			c.podMatched, c.specMatched = isMatched, asRequested
			all[id] = c
		case named[id] || isThere:
		case c.state == v1alpha1.StateStopped:
			delete(all, id) // with its pod its object goes at once, and the kubelet takes its time
		case c.pod.UID != "" && !c.sandbox:
			c.podMatched = "False " + v1alpha1.ReasonPodGone
			all[id] = c
		}
	}
}

// instanceOf returns the instance of a container that a state of its pod's status names, and its ID: empty where it names
// none.
func instanceOf(pod *corev1.Pod, s corev1.ContainerStatus, state corev1.ContainerState) (id string, c container) {
	switch {
	case state.Running != nil:
		id, c.state = idOf(s.ContainerID), v1alpha1.StateRunning
	case state.Terminated != nil && strings.Contains(state.Terminated.ContainerID, "://"):
		id, c.state = idOf(state.Terminated.ContainerID), v1alpha1.StateStopped
		c.exitCode, c.finished = state.Terminated.ExitCode, state.Terminated.FinishedAt.Time
	}
	c.pod = v1alpha1.ContainerPod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Container: s.Name}
	if hash := pod.Annotations[configHash]; hash != "" {
		c.pod.UID = hash // a static pod's containers know nothing else
	}
	c.podMatched, c.specMatched = isMatched, asRequested
	if _, ok := pod.Labels[drifts]; ok {
		c.specMatched = differs
	}
	return id, c
}
