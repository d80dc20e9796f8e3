package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// What a watch can report of a container for the first time.
const (
	objectThere   = "created  → NodeContainer there"
	objectRunning = "started  → NodeContainer Running"
	podRunning    = "started  → pod status running"
	objectStopped = "finished → NodeContainer Stopped"
	podStopped    = "finished → pod status terminated"
)

// behind is how much later than its pod's status a container's object may say the same. Agents collect changes of a
// quarter of a second, and the kubelet does not.
const behind = time.Second

// latest is how late any object may be, however late its pod is.
const latest = 5 * time.Second

func TestAWatchHasEachContainerWithinASecondOfItsPod(t *testing.T) {
	needsOurNodes(t) // their clock is ours
	const atOnce = 4
	seen := watchAll(t)
	nodes := someNodes(t, 2)
	delays := map[string][]time.Duration{}
	for range machine.Volume(2, 10) {
		var pods []*corev1.Pod
		for i := range atOnce {
			pods = append(pods, create(t, podOf("timed", nodes[i%2], "sleep 2")))
		}
		for _, pod := range pods {
			eventually(t, 2*time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodSucceeded) })
			id := idOf(pod.Status.ContainerStatuses[0].State.Terminated.ContainerID)
			eventually(t, 20*time.Second, func(context.Context) error { return seen.all(id) })
			o, err := objectOf(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if o.Status.CreateTime == nil || o.Status.StartTime == nil || o.Status.FinishTime == nil {
				t.Fatalf("pod %s: times are missing: %+v", pod.Name, o.Status)
			}
			delayed := seen.delays(o)
			for _, err := range tooFarBehind(delayed) {
				t.Errorf("pod %s: %v", pod.Name, err)
			}
			for what, delay := range delayed {
				delays[what] = append(delays[what], delay)
			}
		}
	}
	for _, what := range []string{objectThere, objectRunning, podRunning, objectStopped, podStopped} {
		t.Logf("%-34s p50 %5d ms, max %5d ms, of %d", what, quantile(delays[what], 0.5).Milliseconds(),
			quantile(delays[what], 1).Milliseconds(), len(delays[what]))
	}
}

// tooFarBehind says what of a container's object was reported too late.
func tooFarBehind(delays map[string]time.Duration) (wrong []error) {
	for _, pair := range []struct{ object, pod string }{
		{objectThere, podRunning}, {objectRunning, podRunning}, {objectStopped, podStopped},
	} {
		limit := min(delays[pair.pod]+behind, latest)
		if delay := delays[pair.object]; delay > limit {
			wrong = append(wrong, fmt.Errorf("%s after %v, more than %v; %s after %v", pair.object, delay, limit, pair.pod, delays[pair.pod]))
		}
	}
	return wrong
}

func TestOneObjectThatIsBehindItsPodIsFound(t *testing.T) {
	inTime := map[string]time.Duration{
		objectThere: 50 * time.Millisecond, objectRunning: 300 * time.Millisecond, podRunning: 30 * time.Millisecond,
		objectStopped: 250 * time.Millisecond, podStopped: time.Second,
	}
	if wrong := tooFarBehind(inTime); len(wrong) > 0 {
		t.Errorf("in time, but: %v", wrong)
	}
	for _, what := range []string{objectThere, objectRunning, objectStopped} {
		late := maps.Clone(inTime)
		late[what] += 2 * time.Second
		if wrong := tooFarBehind(late); len(wrong) != 1 || !strings.Contains(wrong[0].Error(), what) {
			t.Errorf("%s is late, but: %v", what, wrong)
		}
	}
	for what := range inTime { // however late the pods are
		inTime[what] = time.Minute
	}
	if wrong := tooFarBehind(inTime); len(wrong) != 3 {
		t.Errorf("all are late, but: %v", wrong)
	}
}

// sight is when somebody who watches saw what of which container.
type sight struct {
	mu    sync.Mutex
	first map[string]time.Time // by what and ID
}

func (s *sight) see(what, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.first[what+id]; !ok {
		s.first[what+id] = time.Now()
	}
}

// all says what of a container has not been seen.
func (s *sight) all(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range []string{objectThere, objectRunning, podRunning, objectStopped, podStopped} {
		if _, ok := s.first[what+id]; !ok {
			return fmt.Errorf("%s of %.12s was not seen", what, id)
		}
	}
	return nil
}

// delays are the times from what happened to a container, as its object has it, to when that was seen.
func (s *sight) delays(o *v1alpha1.NodeContainer) map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	delays := map[string]time.Duration{}
	for what, since := range map[string]*metav1.MicroTime{
		objectThere:   o.Status.CreateTime,
		objectRunning: o.Status.StartTime, podRunning: o.Status.StartTime,
		objectStopped: o.Status.FinishTime, podStopped: o.Status.FinishTime,
	} {
		delays[what] = s.first[what+o.Spec.ContainerID].Sub(since.Time)
	}
	return delays
}

// watchAll watches NodeContainers, and the pods of tests, until the test ends.
func watchAll(t *testing.T) *sight {
	t.Helper()
	seen := &sight{first: map[string]time.Time{}}
	follow(t, &v1alpha1.NodeContainerList{}, func(o *v1alpha1.NodeContainer) {
		seen.see(objectThere, o.Spec.ContainerID)
		switch o.Status.State {
		case v1alpha1.StateRunning:
			seen.see(objectRunning, o.Spec.ContainerID)
		case v1alpha1.StateStopped:
			seen.see(objectStopped, o.Spec.ContainerID)
		}
	})
	follow(t, &corev1.PodList{}, func(pod *corev1.Pod) {
		for _, s := range statusesOf(pod) {
			switch {
			case s.State.Running != nil:
				seen.see(podRunning, idOf(s.ContainerID))
			case s.State.Terminated != nil:
				seen.see(podStopped, idOf(s.State.Terminated.ContainerID))
			}
		}
	}, client.InNamespace(namespace))
	return seen
}

// follow hands in every object of a kind that is made or changed, until the test ends.
func follow[T client.Object](t *testing.T, list client.ObjectList, see func(T), options ...client.ListOption) {
	t.Helper()
	w, err := api.Watch(t.Context(), list, options...)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range w.ResultChan() {
			if event.Type == watch.Added || event.Type == watch.Modified {
				see(event.Object.(T))
			}
		}
	}()
	t.Cleanup(func() { w.Stop(); <-done })
}

// quantile is the first of all, in order, that no less than that part is not above.
func quantile(all []time.Duration, part float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
