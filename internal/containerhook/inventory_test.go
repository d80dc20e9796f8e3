package containerhook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/hook"
)

// tracking is a tracker that was told of one container, "/run/runc" a, in a state.
func tracking(t *testing.T, state hook.State) *tracker {
	t.Helper()
	tracker := newTracker()
	e := entry{instance: instance{root: "/run/runc", id: "a"}, init: hook.Process{PID: 20, StartTicks: 7}, alive: true, at: epoch}
	e.state.waiting = state == hook.Created
	tracker.step(inventory{at: epoch, first: true, entries: []entry{e}})
	if state == hook.Stopped {
		tracker.step(exited{at: epoch.Add(time.Second), process: e.init})
	}
	if c := tracker.byID[e.instance]; c == nil || c.State != state {
		t.Fatalf("the container is %+v, want it %s", c, state)
	}
	return tracker
}

func TestInventoryDoesNotForgetWhatCouldNotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		unread instance
		keeps  bool
	}{
		"the container":                   {instance{root: "/run/runc", id: "a"}, true},
		"its runtime's root":              {instance{root: "/run/runc", id: ""}, true},
		"a pattern of roots":              {instance{root: "/run/*", id: ""}, true},
		"anything":                        {instance{}, true},
		"another container":               {instance{root: "/run/runc", id: "b"}, false},
		"the same ID in another root":     {instance{root: "/run/crun", id: "a"}, false},
		"another root":                    {instance{root: "/run/crun", id: ""}, false},
		"a pattern that is none":          {instance{root: "/run/[", id: ""}, false},
		"a pattern of other roots":        {instance{root: "/run/*/runc", id: ""}, false},
		"a container of a pattern's name": {instance{root: "/run/*", id: "b"}, false},
	} {
		tracker := tracking(t, hook.Stopped)
		told, _ := tracker.step(inventory{at: epoch.Add(time.Hour), unread: []instance{test.unread}})
		if kept := len(tracker.byID) == 1; kept != test.keeps || len(told) > 0 {
			t.Errorf("%s could not be read: kept %v, told %v", name, kept, told)
		}
	}
}

// TestUnreadIsNotWhatIsNoContainer: a directory that cannot be a container's must not have all others kept for good.
func TestUnreadIsNotWhatIsNoContainer(t *testing.T) {
	l := &listed{root: "/run/runc"}
	if got := unread(l, pathError("list", l.root, errBadID)); got != nil {
		t.Errorf("a bad ID hides %v", got)
	}
	if diff := cmp.Diff([]instance{{root: "/run/runc"}}, unread(l, errNotJSON), cmp.AllowUnexported(instance{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestInventoryTellsAllOfWhatItFinds(t *testing.T) {
	found := entry{instance: instance{root: "/run/user/1000/crun", id: "id"}, name: "web", path: "/usr/bin/crun",
		problem: "a problem", spec: &specs.Spec{Hostname: "h"}, alive: true, init: hook.Process{PID: 20, StartTicks: 7, CgroupID: 8},
		state: runtimeState{runtime: "crun", uid: 1000, bundle: "/b", created: epoch, waiting: true}}
	tracker := newTracker()
	told, _ := tracker.step(inventory{at: epoch, entries: []entry{found}})
	want := []hook.Event{{Spec: &specs.Spec{Hostname: "h"}, Container: hook.Container{ID: "id", Name: "web",
		Runtime: hook.Runtime{Name: "crun", Path: "/usr/bin/crun", Root: "/run/user/1000/crun"}, Bundle: "/b",
		Rootless: true, Source: hook.FromListing, Problem: "a problem", State: hook.Created,
		Init: hook.Process{PID: 20, StartTicks: 7, CgroupID: 8}, CreateTime: epoch}}}
	if diff := cmp.Diff(want, told); diff != "" || tracker.missed != 1 {
		t.Errorf("missed %d (-want +got):\n%s", tracker.missed, diff)
	}
}

func TestInventoryEndsWhatDiedBeforeItWasFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		alive bool
		want  hook.State
	}{
		"alive": {true, hook.Running},
		"dead":  {false, hook.Stopped},
	} {
		e := entry{instance: instance{root: "/run/runc", id: "a"}, alive: test.alive, init: hook.Process{PID: 20, StartTicks: 7}}
		tracker := newTracker()
		in := inventory{at: epoch, entries: []entry{e}}
		if events, _ := tracker.step(in); len(events) != 1 || events[0].State != test.want {
			t.Errorf("%s: %v", name, events)
		}
		if events, _ := tracker.step(in); len(events) > 0 {
			t.Errorf("%s, again: %v", name, events)
		}
	}
}

func TestInventoryCatchesUpWithAStartThatNobodyTold(t *testing.T) {
	for name, test := range map[string]struct {
		before         hook.State
		alive, waiting bool
		told           bool
	}{
		"it began":           {hook.Created, true, false, true},
		"it waits":           {hook.Created, true, true, false},
		"it is dead":         {hook.Created, false, false, false},
		"that was told":      {hook.Running, true, false, false},
		"it ended meanwhile": {hook.Stopped, true, false, false},
	} {
		tracker := tracking(t, test.before)
		at := epoch.Add(time.Hour)
		e := entry{instance: instance{root: "/run/runc", id: "a"}, init: hook.Process{PID: 20, StartTicks: 7}, alive: test.alive, at: at,
			state: runtimeState{waiting: test.waiting}}
		told, _ := tracker.step(inventory{at: epoch, entries: []entry{e}})
		if test.told != (len(told) == 1) || test.told && (told[0].State != hook.Running || !told[0].StartTime.Equal(at)) {
			t.Errorf("%s: told %v", name, told)
		}
		if tracker.missed != 0 {
			t.Errorf("%s: counted as missed", name)
		}
	}
}

func TestMissesAStartOnlyWhereNobodyToldOfTheContainer(t *testing.T) {
	a, init, other := instance{root: "/run/runc", id: "a"}, hook.Process{PID: 20, StartTicks: 7}, hook.Process{PID: 21, StartTicks: 8}
	for name, test := range map[string]struct {
		of    instance
		init  hook.Process
		state hook.State
		want  bool
	}{
		"known":                           {a, init, hook.Created, false},
		"known with another init":         {a, other, hook.Created, false},
		"not known":                       {instance{root: "/run/runc", id: "b"}, other, hook.Created, true},
		"not known, and not to be read":   {instance{root: "/run/runc", id: "b"}, hook.Process{}, hook.Created, false},
		"another one that had this ID":    {a, other, hook.Stopped, true},
		"an ID of one that ended already": {a, init, hook.Stopped, false},
	} {
		if got := tracking(t, test.state).misses(starting{of: test.of, init: test.init}); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestRollAndCensusTellWhatIsTracked(t *testing.T) {
	for state, live := range map[hook.State]int{hook.Running: 1, hook.Stopped: 0} {
		tracker := tracking(t, state)
		known, inits := make(chan map[identity]bool, 1), make(chan []vanished, 1)
		tracker.step(roll{known})
		tracker.step(census{inits})
		if got := <-known; !got[identity{20, 7}] || len(got) != 1 {
			t.Errorf("%s: the roll is %v", state, got)
		}
		got := <-inits
		if len(got) != live {
			t.Errorf("%s: the census is %v", state, got)
		}
		for _, in := range got {
			if told, _ := tracker.step(in); len(told) != 1 || told[0].Reason != hook.ExitUnseen {
				t.Errorf("%s, vanished: told %v", state, told)
			}
		}
	}
}

// listedHook is a Hook without a kernel, on a host whose runc knows of one container: this process.
func listedHook(t *testing.T, state string) *Hook {
	t.Helper()
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"run/runc/a/state.json": state, "b/config.json": `{"hostname":"h"}`})
	return &Hook{o: Options{HostRoot: dir}, metrics: newMetrics(prometheus.NewRegistry(), newReads()), reads: newReads(), programs: &task.Programs{}, hostProc: "/proc",
		host: openTestRoot(t, dir), inputs: make(chan input)}
}

// listOnce lists the node and returns the inventory and what was told of it.
func listOnce(h *Hook, tracker *tracker) (in inventory, told []hook.Event) {
	done := make(chan struct{})
	go func() { defer close(done); h.list(context.Background(), false) }()
	for {
		next := <-h.inputs
		events, _ := tracker.step(next)
		told = append(told, events...)
		if got, ok := next.(inventory); ok {
			<-done
			return got, told
		}
	}
}

func stateOfSelf(t *testing.T, ticks uint64) string {
	t.Helper()
	h := &Hook{hostProc: "/proc", programs: &task.Programs{}}
	self, err := h.look(int32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if ticks == 0 {
		ticks = self.Process().StartTicks
	}
	return fmt.Sprintf(`{"init_process_pid":%d,"init_process_start":%d,"config":{"labels":["bundle=/b"]}}`, os.Getpid(), ticks)
}

// TestListKeepsNoConfigOfWhatIsKnown: a node's configs may be 4 MiB each.
func TestListKeepsNoConfigOfWhatIsKnown(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("what root's runtimes keep is root's")
	}
	h, tracker := listedHook(t, stateOfSelf(t, 0)), newTracker()
	in, told := listOnce(h, tracker)
	if len(in.entries) != 1 || in.entries[0].spec == nil || len(told) != 1 || told[0].Spec.Hostname != "h" {
		t.Fatalf("listed %+v, told %+v", in.entries, told)
	}
	in, told = listOnce(h, tracker)
	if len(in.entries) != 1 || in.entries[0].spec != nil || len(told) != 0 {
		t.Errorf("listed again %+v, told %+v", in.entries, told)
	}
}

func TestListTellsTheDeadFromWhatCannotBeRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("what root's runtimes keep is root's")
	}
	for name, test := range map[string]struct {
		state         string
		entry, unread int
	}{
		"a pid that is another process's": {stateOfSelf(t, 1), 1, 0},
		"a state that is none":            {"{", 0, 1},
	} {
		in, _ := listOnce(listedHook(t, test.state), newTracker())
		if len(in.entries) != test.entry || len(in.unread) != test.unread || test.entry > 0 && in.entries[0].alive {
			t.Errorf("%s: %+v, unread %v", name, in.entries, in.unread)
		}
	}
	h := listedHook(t, stateOfSelf(t, 0))
	h.hostProc = t.TempDir()
	makeTree(t, h.hostProc, map[string]string{filepath.Join(fmt.Sprint(os.Getpid()), "stat"): "/"}) // not to be read
	if in, told := listOnce(h, newTracker()); len(in.entries) != 0 || len(in.unread) != 1 || len(told) > 0 {
		t.Errorf("a process that cannot be looked at: %+v, unread %v, told %v", in.entries, in.unread, told)
	}
}

// TestExamineDoesNotBelieveAUserOfProcessesThatAreNotHis: he wrote the state, and can name any pid.
func TestExamineDoesNotBelieveAUserOfProcessesThatAreNotHis(t *testing.T) {
	for _, rootless := range []bool{true, false} {
		h := &Hook{hostProc: "/proc", programs: &task.Programs{}, o: Options{Rootless: rootless}}
		e, _, err := h.examine(&listed{state: runtimeState{pid: int32(os.Getpid()), uid: 4_000_000}})
		if !errors.Is(err, errNotTheirs) || e.alive {
			t.Errorf("%+v, %v", e, err)
		}
	}
}
