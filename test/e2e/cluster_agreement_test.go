package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// retention is how long a stopped container is at least kept: less than the controller's --stopped-ttl.
const retention = 4 * time.Minute

// container is what is compared of one.
type container struct {
	state    v1alpha1.ContainerState
	pid      int32     // where it is known, and while it runs
	exitCode int32     // once it stopped
	finished time.Time // in the same case
	pod      types.UID // whose it is, in the same case
	reason   v1alpha1.StopReason
	sandbox  bool // which may have no object
}

// agree fails the test unless, within some seconds, the NodeContainers of every node are what its runtimes say: IDs, states,
// pids and exit codes. On nodes that are not ours the word of the pods' status counts for them.
func agree(t *testing.T) {
	t.Helper()
	names, err := nodeNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range names {
		eventually(t, 20*time.Second, func(ctx context.Context) error { return agreement(ctx, node) })
	}
}

// agreement says where the objects of a node and its runtimes differ.
func agreement(ctx context.Context, node string) error {
	ask := podsSay
	if local {
		ask = runtimesSay
	}
	want, err := ask(ctx, node)
	if err != nil {
		return err
	}
	got, err := objectsSay(ctx, node)
	if err != nil {
		return err
	}
	agent, err := agentOn(ctx, node)
	if err != nil {
		return err
	}
	if len(agent.Status.ContainerStatuses) == 0 || agent.Status.ContainerStatuses[0].State.Running == nil {
		return fmt.Errorf("agent %s does not run", agent.Name)
	}
	// A status tells whole seconds: the one before, and its end, may be of the same one.
	began := agent.Status.ContainerStatuses[0].State.Running.StartedAt.Add(time.Second)
	pods, err := podsOn(ctx, node)
	if err != nil {
		return err
	}
	for id, w := range want {
		if w.state == v1alpha1.StateStopped && !slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return p.UID == w.pod || p.Annotations["kubernetes.io/config.hash"] == string(w.pod) // which static pods have
		}) {
			delete(want, id) // with its pod its object goes at once, and the kubelet takes its time
		}
	}
	return errors.Join(differences(node, want, got, began)...)
}

// differences compares what runtimes say, want, with the objects of a node whose agent has run since began. Objects of stopped
// containers outlive what the runtimes know of them.
func differences(node string, want, got map[string]container, began time.Time) (all []error) {
	for id, w := range want {
		g, ok := got[id]
		stopped := w.state == v1alpha1.StateStopped
		switch {
		case stopped && w.finished.Before(began) && (!ok || g.reason == v1alpha1.StopExitUnseen):
			// Nobody saw its end.
		case stopped && !ok && time.Since(w.finished) > retention:
		case !ok && w.sandbox:
		case !ok:
			all = append(all, fmt.Errorf("%s: %.12s is %s, and there is no object", node, id, w.state))
		case g.state != w.state, stopped && g.exitCode != w.exitCode, !stopped && w.pid != 0 && g.pid != w.pid:
			all = append(all, fmt.Errorf("%s: %.12s is %s, pid %d, exit code %d; its object says %s, pid %d, exit code %d %s", node, id,
				w.state, w.pid, w.exitCode, g.state, g.pid, g.exitCode, g.reason))
		}
	}
	for id, g := range got {
		if _, ok := want[id]; !ok && g.state != v1alpha1.StateStopped {
			all = append(all, fmt.Errorf("%s: %.12s is %s in an object, and unknown to the runtimes", node, id, g.state))
		}
	}
	return all
}

// objectsSay reads the NodeContainers of a node. A container has one object only.
func objectsSay(ctx context.Context, node string) (map[string]container, error) {
	var list v1alpha1.NodeContainerList
	if err := api.List(ctx, &list, client.MatchingFields{v1alpha1.FieldNodeName: node}); err != nil {
		return nil, fmt.Errorf("list NodeContainers: %w", err)
	}
	all := map[string]container{}
	for _, o := range list.Items {
		if !local && (o.Spec.Pod.Namespace == "" || o.Spec.Type == v1alpha1.TypeSandbox) {
			continue // no pod's status tells of it
		}
		if _, twice := all[o.Spec.ContainerID]; twice {
			return nil, fmt.Errorf("%s: %.12s has two objects", node, o.Spec.ContainerID)
		}
		c := container{state: o.Status.State, pid: o.Status.PID, reason: o.Status.Reason}
		if o.Status.ExitCode != nil {
			c.exitCode = *o.Status.ExitCode
		}
		all[o.Spec.ContainerID] = c
	}
	return all, nil
}

// podsSay reads the status of every pod on a node.
func podsSay(ctx context.Context, node string) (map[string]container, error) {
	pods, err := podsOn(ctx, node)
	if err != nil {
		return nil, err
	}
	all := map[string]container{}
	for i := range pods {
		for _, s := range statusesOf(&pods[i]) {
			for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
				switch {
				case state.Running != nil:
					all[idOf(s.ContainerID)] = container{state: v1alpha1.StateRunning}
				case state.Terminated != nil && strings.Contains(state.Terminated.ContainerID, "://"):
					all[idOf(state.Terminated.ContainerID)] = container{state: v1alpha1.StateStopped,
						exitCode: state.Terminated.ExitCode, finished: state.Terminated.FinishedAt.Time, pod: pods[i].UID}
				}
			}
		}
	}
	return all, nil
}

func podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := api.List(ctx, &pods, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods.Items, nil
}
