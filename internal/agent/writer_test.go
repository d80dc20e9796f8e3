package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/event/eventtest"
	"github.com/containerhook/containerhook/internal/object"
)

func newSet() *desired.Set {
	return desired.NewSet(desired.Options{Options: object.Options{
		NodeName: "node-1", BootID: eventtest.BootID, Now: func() time.Time { return eventtest.Epoch },
	}})
}

// written is a Set with its Writer, in front of an API without a network.
type written struct {
	t      *testing.T
	set    *desired.Set
	writer *Writer
	api    *fakeAPI
	hook   event.Status
	stop   func()
}

// write starts a Writer in a bubble of synctest.
func write(t *testing.T, set *desired.Set, api *fakeAPI) *written {
	t.Helper()
	w := &written{t: t, set: set, api: api}
	writer, err := NewWriter(set, WriterOptions{Config: &rest.Config{Host: "http://api", Transport: api, QPS: 50, Burst: 100},
		NodeName: "node-1", Version: "v1", BootID: eventtest.BootID, ObservedSince: eventtest.Epoch, Save: func() error { return nil },
		Status: func() (s event.Status) { api.do(func() { s = w.hook }); return s }, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	w.writer = writer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- writer.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		<-time.After(time.Minute) // the queue's own goroutines end with their next tick
	}
	return w
}

// tell has the hook tell an event, in the words of the Set's scripts.
func (w *written) tell(words string) string {
	object, changed := w.set.Apply(eventtest.Event(w.t, words))
	if object == nil {
		return ""
	}
	if changed {
		w.writer.Changed(object.Name)
	}
	return object.Name
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func bubble(t *testing.T, test func(t *testing.T, w *written)) {
	synctest.Test(t, func(t *testing.T) {
		w := write(t, newSet(), newFakeAPI())
		defer func() { w.stop() }()
		test(t, w)
	})
}

func TestAContainerIsCreatedAtOnceAndEachTransitionWrittenOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		name := w.tell("a Creating pid=7")
		synctest.Wait()
		w.api.check(t, "create "+name)
		after(100 * time.Millisecond)
		w.tell("a Created pid=7")
		after(100 * time.Millisecond)
		w.tell("a Running pid=7 start=1")
		w.api.check(t, "")
		after(coalesceFor)
		w.api.check(t, "status "+name+" Running")
		w.tell("a Running pid=7 start=1")
		after(time.Hour)
		w.api.check(t, "")
		w.tell("a Stopped pid=7 exit=3 finish=2")
		after(coalesceFor)
		w.api.check(t, "status "+name+" Stopped")
		if got := w.api.stored(name).Status.ExitCode; got == nil || *got != 3 {
			t.Errorf("exit code %v", got)
		}
	})
}

func TestAContainerShorterThanTheWindowIsOneCreateAndOneStatus(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		var name string
		for _, state := range []string{"Creating", "Created", "Running start=1", "Stopped exit=0 finish=2"} {
			name = w.tell("a " + state)
			after(10 * time.Millisecond)
		}
		after(time.Minute)
		w.api.check(t, "create "+name+"; status "+name+" Stopped")
	})
}

// What changes while the create is under way waits as long as what changes after it.
func TestASlowCreateIsNoReasonForAnotherStatus(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		after(time.Second) // the agent has been heard
		w.api.do(func() { w.api.takes = 100 * time.Millisecond })
		name := w.tell("a Creating")
		after(50 * time.Millisecond)
		w.tell("a Created")
		after(100 * time.Millisecond)
		w.api.check(t, "create "+name)
		w.tell("a Running start=1")
		after(time.Minute)
		w.api.check(t, "status "+name+" Running")
	})
}

func TestAnObjectThatIsThereAlreadyGetsItsStatusOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		e := eventtest.Event(t, "a Running start=1")
		name := object.Name("node-1", eventtest.BootID, e.Key())
		w.api.do(func() { w.api.objects[name] = &v1alpha1.NodeContainer{ObjectMeta: metav1.ObjectMeta{Name: name}} })
		w.tell("a Running start=1")
		after(time.Second)
		w.api.check(t, "status "+name+" Running")
	})
}

func TestADeletedObjectComesBackWhileItsContainerLives(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		name := w.tell("a Created")
		after(time.Second)
		w.api.writes()
		w.api.do(func() { delete(w.api.objects, name) })
		w.tell("a Running start=1")
		after(time.Second)
		w.api.check(t, "create "+name+"; status "+name+" Running")
		w.api.do(func() { delete(w.api.objects, name) })
		w.tell("a Stopped exit=0 finish=2")
		after(time.Hour)
		w.api.check(t, "")
	})
}

// Who deletes the definitions, or the Node, deletes all of a node's objects, and its agent's with them.
func TestAllObjectsComeBackWithTheAgentsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		live, dead := w.tell("live Running start=1"), w.tell("dead Stopped exit=0 finish=2")
		after(time.Minute)
		w.api.writes()
		w.api.do(func() { delete(w.api.objects, live); delete(w.api.objects, dead) })
		after(2 * time.Minute)
		w.api.check(t, "") // which nobody watches

		w.api.do(func() { w.api.agent = nil })
		after(2 * time.Minute)
		w.api.check(t, "create "+live+"; status "+live+" Running")
		after(time.Hour)
		w.api.check(t, "")
	})
}

func TestNothingIsLostWhileTheAPIIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		after(2 * time.Second) // the agent has been heard, and is not due again within the minute
		var requests atomic.Int32
		w.api.do(func() {
			w.api.takes = 10 * time.Millisecond
			w.api.fault = func(*http.Request) *refusal { requests.Add(1); return &refusal{code: http.StatusServiceUnavailable} }
		})
		var names []string
		for i := range 200 {
			id := fmt.Sprintf("c%d", i)
			names = append(names, w.tell(id+" Running start=1"))
			after(300 * time.Millisecond)
			w.tell(id + " Stopped exit=0 finish=2")
		}
		w.api.check(t, "")
		// Pauses are of up to 5 s, and each ends with one request: of 200 objects that want to be written, and how the agent does.
		if perMinute := requests.Load(); perMinute > 25 {
			t.Errorf("%d requests in a minute at an API that is away", perMinute)
		}
		w.api.do(func() { w.api.fault, w.api.takes = nil, 0 })
		after(15 * time.Second)
		for _, name := range names {
			if c := w.api.stored(name); c == nil || c.Status.State != v1alpha1.StateStopped {
				t.Fatalf("%s is %v", name, c)
			}
		}
		if n := strings.Count(w.api.writes(), ";") + 1; n != 400 {
			t.Errorf("%d writes for 200 containers", n)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		after(2 * time.Second) // the agent's own object is written
		w.api.do(func() {
			w.api.fault = func(*http.Request) *refusal { return &refusal{code: http.StatusTooManyRequests, retryAfter: "20"} }
		})
		name := w.tell("a Creating")
		synctest.Wait()
		var requests atomic.Int32
		w.api.do(func() { w.api.fault = func(*http.Request) *refusal { requests.Add(1); return nil } })
		after(19 * time.Second)
		if n := requests.Load(); n > 0 {
			t.Errorf("%d requests before the time that was asked for", n)
		}
		after(4 * time.Second)
		w.api.check(t, "create "+name+"; status "+name+" Creating")
	})
}

func TestOneThatIsRefusedDoesNotHoldUpTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		after(2 * time.Second) // the agent's own object is written
		first := true
		w.api.do(func() {
			w.api.fault = func(r *http.Request) *refusal {
				if r.Method == http.MethodPost && first {
					first = false
					return &refusal{code: http.StatusUnprocessableEntity, reason: metav1.StatusReasonInvalid}
				}
				return nil
			}
		})
		a := w.tell("a Creating")
		synctest.Wait()
		b := w.tell("b Creating")
		synctest.Wait()
		w.api.check(t, "create "+b)
		after(2 * time.Second)
		w.api.check(t, "status "+b+" Creating; create "+a+"; status "+a+" Creating")
	})
}

// Three of ten requests meet a fault of every kind, some after they were carried out.
func TestFaultsConverge(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		random := rand.New(rand.NewPCG(1, 2))
		w.api.do(func() {
			w.api.fault = func(*http.Request) *refusal {
				if random.IntN(10) >= 3 {
					return nil
				}
				return []*refusal{{code: http.StatusInternalServerError},
					{code: http.StatusTooManyRequests, retryAfter: "1"},
					{code: http.StatusGatewayTimeout, reason: metav1.StatusReasonTimeout},
					{code: http.StatusConflict, reason: metav1.StatusReasonConflict}}[random.IntN(4)]
			}
		})
		want := map[string]string{}
		for i := range 100 {
			want[w.tell(fmt.Sprintf("c%d Running start=1", i))] = "Running"
			if i%2 == 0 {
				want[w.tell(fmt.Sprintf("c%d Stopped exit=0 finish=2", i))] = "Stopped"
			}
			after(50 * time.Millisecond)
		}
		after(5 * time.Minute)
		got := map[string]string{}
		w.api.do(func() {
			for name, c := range w.api.objects {
				got[name] = string(c.Status.State)
			}
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n := strings.Count(w.api.writes(), ";") + 1; n > 250 { // 100 creates, and at most one status and a half each
			t.Errorf("%d writes", n)
		}
	})
}

func TestSuspendedCreatesAreMadeUpFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		a := w.tell("a Running start=1")
		after(time.Second)
		w.api.do(func() { w.api.suspend = true })
		after(beatEvery + time.Second)
		w.api.writes()
		b := w.tell("b Running start=1")
		w.tell("a Stopped exit=0 finish=2")
		after(2 * time.Second)
		w.api.check(t, "status "+a+" Stopped")
		if got := w.api.agentStatus().SuppressedContainers; got == nil || *got != 1 {
			t.Errorf("%v suppressed", got)
		}
		after(2 * beatEvery)
		w.api.check(t, "")
		w.api.do(func() { w.api.suspend = false })
		after(beatEvery + 2*time.Second)
		w.api.check(t, "create "+b+"; status "+b+" Running")
		if got := w.api.agentStatus().SuppressedContainers; got == nil || *got != 0 {
			t.Errorf("%v suppressed", got)
		}
	})
}

func TestAnAgentThatBeginsWhileCreatesAreSuspendedMakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		api.suspend, api.takes = true, time.Second // the first answer comes late
		w := write(t, newSet(), api)
		defer func() { w.stop() }()
		w.tell("a Running start=1")
		after(2 * beatEvery)
		w.api.check(t, "")
		if got := w.api.agentStatus().SuppressedContainers; got == nil || *got != 1 {
			t.Errorf("%v suppressed", got)
		}
	})
}

func TestContainersAreWrittenWhereHowTheAgentDoesIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		w.api.do(func() {
			w.api.fault = func(r *http.Request) *refusal {
				if !strings.Contains(r.URL.Path, nodeContainerAgents) {
					return nil
				}
				return &refusal{code: http.StatusForbidden, reason: metav1.StatusReasonForbidden}
			}
		})
		name := w.tell("a Running start=1")
		after(time.Second)
		w.api.check(t, "create "+name+"; status "+name+" Running")
	})
}

func TestAnAgentTellsOnceAMinuteAndWhenItChanges(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		after(time.Second)
		agent := w.api.agentStatus
		first := agent().HeartbeatTime
		after(beatEvery - 2*time.Second)
		if !agent().HeartbeatTime.Equal(first) {
			t.Error("told without a change")
		}
		after(3 * time.Second)
		if agent().HeartbeatTime.Equal(first) {
			t.Error("not told for a minute")
		}
		w.api.do(func() { w.hook.Degraded = errors.New("no BTF") })
		after(2 * time.Second)
		condition := agent().Conditions[1]
		if condition.Type != v1alpha1.ConditionHooked || condition.Status != metav1.ConditionFalse || condition.Message != "no BTF" {
			t.Errorf("%+v", condition)
		}
	})
}

// What cannot be read may be a container that is there: then the agent does not say that it knows all.
func TestAnAgentKnowsAllWhereItCouldReadAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *written) {
		for unread, want := range []string{eventtest.Epoch.String(), "<nil>"} {
			w.api.do(func() { w.hook.Unread = unread })
			after(beatEvery + 2*time.Second)
			if got := fmt.Sprint(w.api.agentStatus().ObservedSince); got != want {
				t.Errorf("with %d unread all is known since %s, want %s", unread, got, want)
			}
		}
	})
}

// An agent is killed and the next one begins, with what the checkpoint has, and without.
func TestTheNextAgentWritesNothingTwice(t *testing.T) {
	for name, lose := range map[string]bool{"with a checkpoint": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, api, set := t.TempDir(), newFakeAPI(), newSet()
				checkpoint := desired.NewCheckpoint(set, dir)
				w := write(t, set, api)
				live, dead := w.tell("live Running start=1"), w.tell("dead Stopped exit=3 finish=2")
				after(time.Second)
				w.stop()
				if err := checkpoint.Save(); err != nil {
					t.Fatal(err)
				}
				api.writes()

				if lose {
					dir = filepath.Join(dir, "another")
				}
				next := newSet()
				checkpoint = desired.NewCheckpoint(next, dir)
				known, err := checkpoint.Load(time.Minute)
				if err != nil || len(known) != map[bool]int{false: 2, true: 0}[lose] {
					t.Fatalf("%d containers are known, %v", len(known), err)
				}
				w = write(t, next, api)
				w.tell("live Running start=1 listed")
				w.tell("dead Stopped reason=ExitUnknown listed") // in its runtime's state, for the one who does not know it
				after(time.Minute)
				if lose {
					api.mu.Lock()
					log := strings.Join(api.log, "; ")
					api.log = nil
					api.mu.Unlock()
					if log != "status "+live+" Running; read "+dead && log != "read "+dead+"; status "+live+" Running" {
						t.Errorf("written: %s", log)
					}
				} else {
					api.check(t, "")
				}
				if got := api.stored(dead).Status.ExitCode; got == nil || *got != 3 {
					t.Errorf("the exit code has become %v", got)
				}
				w.stop()
			})
		})
	}
}
