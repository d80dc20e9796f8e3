package tracker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/event"
)

// tracking is a tracker that was told of one container, "/run/runc" a, in a state.
func tracking(t *testing.T, state event.State) *Tracker {
	t.Helper()
	tracker := New()
	e := Entry{Instance: Instance{Root: "/run/runc", ID: "a"}, Init: event.Process{PID: 20, StartTicks: 7}, Alive: true, At: epoch}
	e.Waiting = state == event.Created
	tracker.Step(Inventory{At: epoch, First: true, Entries: []Entry{e}})
	if state == event.Stopped {
		tracker.Step(Exited{At: epoch.Add(time.Second), Process: e.Init})
	}
	if c := tracker.byID[e.Instance]; c == nil || c.State != state {
		t.Fatalf("the container is %+v, want it %s", c, state)
	}
	return tracker
}

func TestInventoryDoesNotForgetWhatCouldNotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		unread Instance
		keeps  bool
	}{
		"the container":                   {Instance{Root: "/run/runc", ID: "a"}, true},
		"its runtime's root":              {Instance{Root: "/run/runc", ID: ""}, true},
		"a pattern of roots":              {Instance{Root: "/run/*", ID: ""}, true},
		"anything":                        {Instance{}, true},
		"another container":               {Instance{Root: "/run/runc", ID: "b"}, false},
		"the same ID in another root":     {Instance{Root: "/run/crun", ID: "a"}, false},
		"another root":                    {Instance{Root: "/run/crun", ID: ""}, false},
		"a pattern that is none":          {Instance{Root: "/run/[", ID: ""}, false},
		"a pattern of other roots":        {Instance{Root: "/run/*/runc", ID: ""}, false},
		"a container of a pattern's name": {Instance{Root: "/run/*", ID: "b"}, false},
	} {
		tracker := tracking(t, event.Stopped)
		told, _ := tracker.Step(Inventory{At: epoch.Add(time.Hour), Unread: []Instance{test.unread}})
		if kept := len(tracker.byID) == 1; kept != test.keeps || len(told) > 0 {
			t.Errorf("%s could not be read: kept %v, told %v", name, kept, told)
		}
	}
}

func TestInventoryTellsAllOfWhatItFinds(t *testing.T) {
	found := Entry{Instance: Instance{Root: "/run/user/1000/crun", ID: "id", UID: 1000}, Name: "web", Path: "/usr/bin/crun",
		Problem: "a problem", Spec: &specs.Spec{Hostname: "h"}, Alive: true, Init: event.Process{PID: 20, StartTicks: 7, CgroupID: 8},
		Runtime: "crun", Bundle: "/b", Created: epoch, Waiting: true}
	tracker := New()
	told, _ := tracker.Step(Inventory{At: epoch, Entries: []Entry{found}})
	want := []event.Event{{Spec: &specs.Spec{Hostname: "h"}, Container: event.Container{ID: "id", Name: "web",
		Runtime: event.Runtime{Name: "crun", Path: "/usr/bin/crun", Root: "/run/user/1000/crun"}, Bundle: "/b",
		Rootless: true, Source: event.FromListing, Problem: "a problem", State: event.Created,
		Init: event.Process{PID: 20, StartTicks: 7, CgroupID: 8}, CreateTime: epoch}}}
	if diff := cmp.Diff(want, told); diff != "" || tracker.Missed != 1 {
		t.Errorf("missed %d (-want +got):\n%s", tracker.Missed, diff)
	}
}

func TestInventoryEndsWhatDiedBeforeItWasFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		alive bool
		want  event.State
	}{
		"alive": {true, event.Running},
		"dead":  {false, event.Stopped},
	} {
		e := Entry{Instance: Instance{Root: "/run/runc", ID: "a"}, Alive: test.alive, Init: event.Process{PID: 20, StartTicks: 7}}
		tracker := New()
		in := Inventory{At: epoch, Entries: []Entry{e}}
		if events, _ := tracker.Step(in); len(events) != 1 || events[0].State != test.want {
			t.Errorf("%s: %v", name, events)
		}
		if events, _ := tracker.Step(in); len(events) > 0 {
			t.Errorf("%s, again: %v", name, events)
		}
	}
}

func TestInventoryCatchesUpWithAStartThatNobodyTold(t *testing.T) {
	for name, test := range map[string]struct {
		before         event.State
		alive, waiting bool
		told           bool
	}{
		"it began":           {event.Created, true, false, true},
		"it waits":           {event.Created, true, true, false},
		"it is dead":         {event.Created, false, false, false},
		"that was told":      {event.Running, true, false, false},
		"it ended meanwhile": {event.Stopped, true, false, false},
	} {
		tracker := tracking(t, test.before)
		at := epoch.Add(time.Hour)
		e := Entry{Instance: Instance{Root: "/run/runc", ID: "a"}, Init: event.Process{PID: 20, StartTicks: 7}, Alive: test.alive, At: at,
			Waiting: test.waiting}
		told, _ := tracker.Step(Inventory{At: epoch, Entries: []Entry{e}})
		if test.told != (len(told) == 1) || test.told && (told[0].State != event.Running || !told[0].StartTime.Equal(at)) {
			t.Errorf("%s: told %v", name, told)
		}
		if tracker.Missed != 0 {
			t.Errorf("%s: counted as missed", name)
		}
	}
}

func TestMissesAStartOnlyWhereNobodyToldOfTheContainer(t *testing.T) {
	a, init, other := Instance{Root: "/run/runc", ID: "a"}, event.Process{PID: 20, StartTicks: 7}, event.Process{PID: 21, StartTicks: 8}
	for name, test := range map[string]struct {
		of    Instance
		init  event.Process
		state event.State
		want  bool
	}{
		"known":                           {a, init, event.Created, false},
		"known with another init":         {a, other, event.Created, false},
		"not known":                       {Instance{Root: "/run/runc", ID: "b"}, other, event.Created, true},
		"not known, and not to be read":   {Instance{Root: "/run/runc", ID: "b"}, event.Process{}, event.Created, false},
		"another one that had this ID":    {a, other, event.Stopped, true},
		"an ID of one that ended already": {a, init, event.Stopped, false},
	} {
		if got := tracking(t, test.state).misses(Starting{Of: test.of, Init: test.init}); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestRollAndCensusTellWhatIsTracked(t *testing.T) {
	for state, live := range map[event.State]int{event.Running: 1, event.Stopped: 0} {
		tracker := tracking(t, state)
		known, inits := make(chan map[Identity]bool, 1), make(chan []Vanished, 1)
		tracker.Step(Roll{known})
		tracker.Step(Census{inits})
		if got := <-known; !got[Identity{20, 7}] || len(got) != 1 {
			t.Errorf("%s: the roll is %v", state, got)
		}
		got := <-inits
		if len(got) != live {
			t.Errorf("%s: the census is %v", state, got)
		}
		for _, in := range got {
			if told, _ := tracker.Step(in); len(told) != 1 || told[0].Reason != event.ExitUnknown {
				t.Errorf("%s, vanished: told %v", state, told)
			}
		}
	}
}
