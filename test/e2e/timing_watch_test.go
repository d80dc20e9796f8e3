package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// What a watch can tell of a container for the first time.
const (
	objectThere   = "created  → NodeContainer there"
	objectRunning = "started  → NodeContainer Running"
	podRunning    = "started  → pod status running"
	objectStopped = "finished → NodeContainer Stopped"
	podStopped    = "finished → pod status terminated"
)

// What somebody who watches waits for, in NodeContainers and in pods: printed, and within bounds that a busy machine keeps.
func TestAWatchTellsOfAContainerNoLaterThanItsPod(t *testing.T) {
	needsOurNodes(t) // their clock is ours
	const rounds, atOnce = 10, 4
	told := watchAll(t)
	nodes := someNodes(t, 2)
	delays := map[string][]time.Duration{}
	for range rounds {
		var pods []*corev1.Pod
		for i := range atOnce {
			pods = append(pods, create(t, podOf("timed", nodes[i%2], "sleep 2")))
		}
		for _, pod := range pods {
			eventually(t, 2*time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodSucceeded) })
			id := idOf(pod.Status.ContainerStatuses[0].State.Terminated.ContainerID)
			eventually(t, 20*time.Second, func(context.Context) error { return told.ends(id) })
			o, err := objectOf(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			for what, since := range map[string]time.Time{
				objectThere:   o.Status.CreateTime.Time,
				objectRunning: o.Status.StartTime.Time, podRunning: o.Status.StartTime.Time,
				objectStopped: o.Status.FinishTime.Time, podStopped: o.Status.FinishTime.Time,
			} {
				if at, ok := told.at(what, id); ok { // one that is late is jumped over
					delays[what] = append(delays[what], at.Sub(since))
				}
			}
		}
	}
	for _, what := range []string{objectThere, objectRunning, podRunning, objectStopped, podStopped} {
		t.Logf("%-34s p50 %5d ms, p99 %5d ms, of %d", what,
			quantile(delays[what], 0.5).Milliseconds(), quantile(delays[what], 0.99).Milliseconds(), len(delays[what]))
	}
	if half := quantile(delays[objectThere], 0.5); half > time.Second {
		t.Errorf("half of the containers are told %v after they were created, or later", half)
	}
	if object, pod := quantile(delays[objectStopped], 0.5), quantile(delays[podStopped], 0.5); object > pod+time.Second {
		t.Errorf("half of the ends are told after %v, of pods after %v", object, pod)
	}
}

// telling is when somebody who watches was told what of which container.
type telling struct {
	mu    sync.Mutex
	first map[string]time.Time // by what and ID
}

func (s *telling) tell(what, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.first[what+id]; !ok {
		s.first[what+id] = time.Now()
	}
}

func (s *telling) at(what, id string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.first[what+id]
	return at, ok
}

// ends says which end of a container has not been told.
func (s *telling) ends(id string) error {
	for _, what := range []string{objectThere, objectStopped, podStopped} {
		if _, ok := s.at(what, id); !ok {
			return fmt.Errorf("%s of %.12s was not told", what, id)
		}
	}
	return nil
}

// watchAll watches NodeContainers, and the pods of tests, until the test ends.
func watchAll(t *testing.T) *telling {
	t.Helper()
	told := &telling{first: map[string]time.Time{}}
	follow(t, &v1alpha1.NodeContainerList{}, func(o *v1alpha1.NodeContainer) {
		told.tell(objectThere, o.Spec.ContainerID)
		switch o.Status.State {
		case v1alpha1.StateRunning:
			told.tell(objectRunning, o.Spec.ContainerID)
		case v1alpha1.StateStopped:
			told.tell(objectStopped, o.Spec.ContainerID)
		}
	})
	follow(t, &corev1.PodList{}, func(pod *corev1.Pod) {
		for _, s := range statusesOf(pod) {
			switch {
			case s.State.Running != nil:
				told.tell(podRunning, idOf(s.ContainerID))
			case s.State.Terminated != nil:
				told.tell(podStopped, idOf(s.State.Terminated.ContainerID))
			}
		}
	}, client.InNamespace(namespace))
	return told
}

// follow hands in every object of a kind that is made or changed, until the test ends.
func follow[T client.Object](t *testing.T, list client.ObjectList, tell func(T), options ...client.ListOption) {
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
				tell(event.Object.(T))
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
