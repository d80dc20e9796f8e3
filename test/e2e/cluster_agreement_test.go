package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// retention is how long a stopped container is at least kept: less than the controller's --stopped-ttl.
const retention = 4 * time.Minute

// matchedWithin is how long the controller may take to judge a container: where its node is lost another one takes over
// when its lease has run out, after 15 s.
const matchedWithin = 40 * time.Second

// container is what is compared of one. What a runtime does not know is the zero value, and is not compared.
type container struct {
	state      v1alpha1.ContainerState
	pid        int32                        // while it runs
	namespaces v1alpha1.ContainerNamespaces // of its init process, while it runs
	cgroup     int64                        // the ID of its init process's cgroup, while it runs
	exitCode   int32                        // once it stopped
	finished   time.Time                    // in the same case
	reason     v1alpha1.StopReason
	sandbox    bool // which may have no object

	pod         v1alpha1.ContainerPod // as its engine labels it
	podMatched  string                // status and reason of the condition
	specMatched string
}

// agree fails the test unless, within some seconds, the NodeContainers of these nodes, or of all, are what the nodes'
// runtimes say: IDs, states, processes, exit codes, pods and conditions. On nodes that are not ours the pods' status counts
// for the runtimes. Pods of other tests come and go meanwhile: a container is wrong only if it is wrong each time.
func agree(t *testing.T, nodes ...string) {
	t.Helper()
	if len(nodes) == 0 {
		var err error
		if nodes, err = nodeNames(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	for _, node := range nodes {
		var wrong map[string]error
		eventually(t, matchedWithin, func(ctx context.Context) error {
			now, err := look(ctx, node)
			if err != nil {
				return err
			}
			wrong = still(wrong, now)
			return errors.Join(slices.Collect(maps.Values(wrong))...)
		})
	}
}

// looks are the last of each node.
var looks sync.Map

// look is disagreement for many tests at once: one looks at a node at a time, and the others share what began after they
// asked.
func look(ctx context.Context, node string) (map[string]error, error) {
	type result struct {
		mu    sync.Mutex
		began time.Time
		wrong map[string]error
		err   error
	}
	asked := time.Now()
	last, _ := looks.LoadOrStore(node, &result{})
	r := last.(*result)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.Before(asked) {
		r.began = time.Now()
		r.wrong, r.err = disagreement(ctx, node)
	}
	return maps.Clone(r.wrong), r.err
}

// still returns what differed before and differs now: all of now where nothing is known of before.
func still(before, now map[string]error) map[string]error {
	if before == nil {
		return now
	}
	maps.DeleteFunc(now, func(id string, _ error) bool { return before[id] == nil })
	return now
}

// disagreement returns how the objects of a node differ from its runtimes, by the containers' IDs.
func disagreement(ctx context.Context, node string) (map[string]error, error) {
	want := map[string]container{}
	if local {
		var err error
		if want, err = runtimesSay(ctx, node); err != nil {
			return nil, err
		}
	}
	pods, err := podsOn(ctx, node)
	if err != nil {
		return nil, err
	}
	podsSay(pods, want)
	got, err := objectsSay(ctx, node)
	if err != nil {
		return nil, err
	}

	ready, err := readySince(ctx, node)
	if err != nil {
		return nil, err
	}
	return differences(node, want, got, ready), nil
}

// differences compares what runtimes say, want, with the objects of a node whose agent has been ready since began: what ended
// before that it may have found dead. Objects of stopped containers outlive what the runtimes know of them.
func differences(node string, want, got map[string]container, began time.Time) map[string]error {
	all := map[string]error{}
	for id, w := range want {
		g, ok := got[id]
		stopped := w.state == v1alpha1.StateStopped
		switch {
		case stopped && w.finished.Before(began) && (!ok || g.reason == v1alpha1.StopExitUnknown):
			// Nobody may have seen its end.
		case stopped && !ok && time.Since(w.finished) > retention:
		case !ok && w.sandbox:
		case !ok:
			all[id] = fmt.Errorf("%s: %.12s is %s, and there is no object", node, id, w.state)
		default:
			if wrong := unlike(w, g); len(wrong) > 0 {
				all[id] = fmt.Errorf("%s: %.12s has %s", node, id, strings.Join(wrong, ", "))
			}
		}
	}
	for id, g := range got {
		if _, ok := want[id]; !ok && g.state != v1alpha1.StateStopped {
			all[id] = fmt.Errorf("%s: %.12s is %s in an object, and unknown to the runtimes", node, id, g.state)
		}
	}
	return all
}

// unlike names what runtimes know of a container, w, and its object, g, says otherwise.
func unlike(w, g container) (wrong []string) {
	compare := func(what string, isKnown bool, want, got any) {
		if isKnown && want != got {
			wrong = append(wrong, fmt.Sprintf("%s %v and in its object %v", what, want, got))
		}
	}
	compare("state", true, w.state, g.state)
	compare("exit code", w.state == v1alpha1.StateStopped, w.exitCode, g.exitCode)
	compare("pid", w.pid != 0, w.pid, g.pid)
	compare("namespaces", w.namespaces != v1alpha1.ContainerNamespaces{}, w.namespaces, g.namespaces)
	compare("cgroup", w.cgroup != 0, w.cgroup, g.cgroup)
	compare("pod", w.pod != v1alpha1.ContainerPod{}, w.pod, g.pod)
	compare("PodMatched", w.podMatched != "", w.podMatched, g.podMatched)
	compare("SpecMatched", w.specMatched != "", w.specMatched, g.specMatched)
	return wrong
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
			continue // no pod's status has it
		}
		if _, twice := all[o.Spec.ContainerID]; twice {
			return nil, fmt.Errorf("%s: %.12s has two objects", node, o.Spec.ContainerID)
		}
		all[o.Spec.ContainerID] = objectSays(&o)
	}
	return all, nil
}

func objectSays(o *v1alpha1.NodeContainer) container {
	c := container{
		state: o.Status.State, pid: o.Status.PID, namespaces: o.Status.Namespaces, cgroup: o.Status.CgroupID, reason: o.Status.Reason,
		pod:         o.Spec.Pod,
		podMatched:  conditionOf(o, v1alpha1.ConditionPodMatched),
		specMatched: conditionOf(o, v1alpha1.ConditionSpecMatched),
	}
	if o.Status.ExitCode != nil {
		c.exitCode = *o.Status.ExitCode
	}
	return c
}

// conditionOf is the status and the reason of a condition: empty where there is none.
func conditionOf(o *v1alpha1.NodeContainer, kind string) string {
	if c := meta.FindStatusCondition(o.Status.Conditions, kind); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return ""
}

// What the conditions of a container say that runs as its pod asks for.
const (
	isMatched   = "True " + v1alpha1.ReasonMatched
	asRequested = "True " + v1alpha1.ReasonAsRequested
	differs     = "False " + v1alpha1.ReasonDiffers
)

// drifts is the label of pods whose containers have more than the pod asks for.
const drifts = "containerhook-e2e-drifts"

func podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := api.List(ctx, &pods, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods.Items, nil
}
