package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

func TestTheObjectsOfANodeThatCrashesAndBootsAgainAreAsItIs(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 1)
	agent := runningAgent(t, node, nil)
	release := judged(t)
	usual := usualStart(t, node)
	release()
	pod := create(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "survivor-", Namespace: namespace},
		Spec: specOf(node, corev1.RestartPolicyAlways, "exec sleep 100000")})
	eventually(t, time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
	before := idOf(pod.Status.ContainerStatuses[0].ContainerID)
	agree(t, node)

	for _, command := range []string{"crash", "boot"} {
		if _, err := cluster(t.Context(), command, node); err != nil {
			t.Fatal(err)
		}
	}
	runningAgent(t, node, agent)
	eventually(t, 2*time.Minute, func(ctx context.Context) error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return fmt.Errorf("read pod: %w", err)
		}
		if s := pod.Status.ContainerStatuses[0]; s.State.Running == nil || idOf(s.ContainerID) == before {
			return fmt.Errorf("pod %s does not run again", pod.Name)
		}
		return nil
	})
	startPod(t, node) // the first one after a boot waits for more than runc
	release = judged(t)
	startsAsUsual(t, node, usual, "after a boot")
	release()
	agree(t, node)
	var list v1alpha1.NodeContainerList
	if err := api.List(t.Context(), &list, client.MatchingFields{v1alpha1.FieldContainerID: before}); err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Items {
		if o.Status.State != v1alpha1.StateStopped && !rebooted(&o) {
			t.Errorf("%s, of before the crash, is %s with the conditions %v", o.Name, o.Status.State, o.Status.Conditions)
		}
	}
}

// rebooted says whether the controller has declared a container dead by its node's boot.
func rebooted(o *v1alpha1.NodeContainer) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == v1alpha1.ConditionObserved && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonRebooted {
			return true
		}
	}
	return false
}

func TestContainersOutliveContainerdAndStayAsTheyAre(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 0)
	release := judged(t)
	usual := usualStart(t, node)
	pod, _ := startPod(t, node)
	longest := execs(t, node)
	onNode(t, node, "sh", "-c", `kill -KILL $(pidof containerd)`)
	eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := cluster(ctx, "exec", node, "ctr", "version")
		return err
	})

	startsAsUsual(t, node, usual+5*time.Second, "after containerd was killed") // the kubelet comes back to it in its own time
	longest()
	release()
	if err := phaseIs(t.Context(), pod, corev1.PodRunning); err != nil {
		t.Error(err)
	}
	agree(t, node)
}

// Both nodes have one kernel, and one inode of runc: both agents get an event of every exec of it.
func TestNodesThatShareARuntimeEachHaveTheirOwnContainers(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	nodes := someNodes(t, 2)
	inode := func(node string) string {
		return onNode(t, node, "stat", "-c", "%d:%i", "/usr/sbin/runc", "/usr/bin/crun")
	}
	if one, two := inode(nodes[0]), inode(nodes[1]); one != two {
		t.Fatalf("the runtimes' inodes are %q and %q: this test is about one", one, two)
	}
	var pods []*corev1.Pod
	for _, node := range []string{nodes[0], nodes[1], nodes[0], nodes[1]} {
		pod, _ := startPod(t, node)
		pods = append(pods, pod)
	}
	for _, pod := range pods {
		var objects []v1alpha1.NodeContainer
		eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
			if objects, err = objectsOf(ctx, pod); err == nil && len(objects) == 0 {
				err = fmt.Errorf("pod %s has no object", pod.Name)
			}
			return err
		})
		if len(objects) != 1 || objects[0].Spec.NodeName != pod.Spec.NodeName {
			t.Errorf("pod %s on %s has the objects %v", pod.Name, pod.Spec.NodeName, objects)
		}
	}
	agree(t)
}

// The node gets the runtime's directory for itself, and replaces the runtime there as a package manager does.
func TestARuntimeThatIsReplacedIsHeldAgain(t *testing.T) {
	needsOurNodes(t)
	node := alone(t, 0)
	release := judged(t)
	usual := usualStart(t, node)
	runtime := strings.TrimSpace(onNode(t, node, "sh", "-c", `command -v "$(cat "$0")"`, filepath.Join(clusterDir, "runtime")))
	onNode(t, node, "sh", "-c", `mkdir -p /run/e2e/upper /run/e2e/work &&
		mount -t overlay overlay -o lowerdir="$0",upperdir=/run/e2e/upper,workdir=/run/e2e/work "$0"`, filepath.Dir(runtime))
	t.Cleanup(func() { onNodeAtEnd(t, node, "sh", "-c", `umount --lazy "$0"; rm -rf /run/e2e`, filepath.Dir(runtime)) })
	var starts []time.Duration
	for range 3 {
		onNode(t, node, "sh", "-c", `cp "$0" "$0.new" && mv "$0.new" "$0"`, runtime)
		_, took := startPod(t, node)
		starts = append(starts, took)
	}
	compare(t, starts, usual, "the runtime was just replaced")
	release()
	// What started at once may have been found by listing. What starts later must not be.
	eventually(t, time.Minute, func(context.Context) error {
		pod, _ := startPod(t, node)
		if got := observedBy(t, pod); got != v1alpha1.ReasonHook {
			return fmt.Errorf("pod %s was observed by %q", pod.Name, got)
		}
		return nil
	})
	agree(t, node)
}

// observedBy says how the containers of a pod were seen, as soon as their status has it, which
// follows their objects.
func observedBy(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	var reasons []string
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		objects, err := objectsOf(ctx, pod)
		if err != nil {
			return err
		}
		reasons = nil
		for _, o := range objects {
			observed := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionObserved)
			if observed == nil {
				return fmt.Errorf("%s of pod %s has no status yet", o.Name, pod.Name)
			}
			reasons = append(reasons, observed.Reason)
		}
		if reasons == nil {
			return fmt.Errorf("pod %s has no object yet", pod.Name)
		}
		return nil
	})
	return strings.Join(reasons, ", ")
}
