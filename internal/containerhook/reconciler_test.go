package containerhook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/event"
)

// TestUnreadIsNotWhatIsNoContainer: a directory that cannot be a container's must not have all others kept for good.
func TestUnreadIsNotWhatIsNoContainer(t *testing.T) {
	l := &oci.Listed{Root: "/run/runc"}
	if got := unread(l, hostfs.PathError("list", l.Root, oci.ErrBadID)); got != nil {
		t.Errorf("a bad ID hides %v", got)
	}
	if diff := cmp.Diff([]tracker.Instance{{Root: "/run/runc"}}, unread(l, oci.ErrNotJSON)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// listedHost is a reconciler without a kernel, on the host in dir, whose runc knows of one container: this process.
func listedHost(t *testing.T, dir, state string) *reconciler {
	t.Helper()
	hosttest.MakeTree(t, dir, map[string]string{"run/runc/a/state.json": state, "b/config.json": `{"hostname":"h"}`})
	m := newMetrics(prometheus.NewRegistry(), hostfs.NewReads())
	q := newQueue(m)
	q.inputs = make(chan tracker.Input) // whoever sends waits
	return &reconciler{processes: &processes{hostProc: "/proc", programs: &task.Programs{}, metrics: m}, queue: q, status: new(status),
		host: hosttest.Open(t, hostfs.Open, dir), reads: hostfs.NewReads(), patterns: oci.StatePatterns(nil, false)}
}

// listOnce lists the node and returns the inventory and what was told of it.
func listOnce(r *reconciler, tr *tracker.Tracker) (in tracker.Inventory, told []event.Event) {
	done := make(chan struct{})
	go func() { defer close(done); r.list(context.Background(), false) }()
	for {
		next := <-r.queue.inputs
		events, _ := tr.Step(next)
		told = append(told, events...)
		if got, ok := next.(tracker.Inventory); ok {
			<-done
			return got, told
		}
	}
}

func stateOfSelf(t *testing.T, ticks uint64) string {
	t.Helper()
	p := &processes{hostProc: "/proc", programs: &task.Programs{}}
	self, err := p.look(int32(os.Getpid()))
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
	r, tr := listedHost(t, t.TempDir(), stateOfSelf(t, 0)), tracker.New()
	in, told := listOnce(r, tr)
	if len(in.Entries) != 1 || in.Entries[0].Spec == nil || len(told) != 1 || told[0].Spec.Hostname != "h" {
		t.Fatalf("listed %+v, told %+v", in.Entries, told)
	}
	in, told = listOnce(r, tr)
	if len(in.Entries) != 1 || in.Entries[0].Spec != nil || len(told) != 0 {
		t.Errorf("listed again %+v, told %+v", in.Entries, told)
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
		in, _ := listOnce(listedHost(t, t.TempDir(), test.state), tracker.New())
		if len(in.Entries) != test.entry || len(in.Unread) != test.unread || test.entry > 0 && in.Entries[0].Alive {
			t.Errorf("%s: %+v, unread %v", name, in.Entries, in.Unread)
		}
	}
	r := listedHost(t, t.TempDir(), stateOfSelf(t, 0))
	r.hostProc = t.TempDir()
	hosttest.MakeTree(t, r.hostProc, map[string]string{filepath.Join(fmt.Sprint(os.Getpid()), "stat"): "/"}) // not to be read
	if in, told := listOnce(r, tracker.New()); len(in.Entries) != 0 || len(in.Unread) != 1 || len(told) > 0 {
		t.Errorf("a process that cannot be looked at: %+v, unread %v, told %v", in.Entries, in.Unread, told)
	}
}

// TestExamineDoesNotBelieveAUserOfProcessesThatAreNotHis: he wrote the state, and can name any pid.
func TestExamineDoesNotBelieveAUserOfProcessesThatAreNotHis(t *testing.T) {
	for _, rootless := range []bool{true, false} {
		r := &reconciler{processes: &processes{hostProc: "/proc", programs: &task.Programs{}, rootless: rootless}}
		e, _, err := r.examine(&oci.Listed{State: oci.State{PID: int32(os.Getpid()), UID: 4_000_000}})
		if !errors.Is(err, errNotTheirs) || e.Alive {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// TestAContainerIsResumedAsItsOwners: what was told does not say which user's it is, but the runtime's state does.
func TestAContainerIsResumedAsItsOwners(t *testing.T) {
	hosttest.NeedRoot(t)
	for name, uid := range map[string]uint32{"root's": 0, "a user's": 1000} {
		dir := t.TempDir()
		r := listedHost(t, dir, stateOfSelf(t, 0))
		if err := os.Chown(filepath.Join(dir, "run/runc/a"), int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
		known := []event.Container{{ID: "a", Runtime: event.Runtime{Root: "/run/runc"}, Rootless: uid != 0, State: event.Stopped}}
		go r.resume(context.Background(), known)
		if in, ok := (<-r.queue.inputs).(tracker.Resumed); !ok || in.UID != uid || in.Alive {
			t.Errorf("%s: %+v", name, in)
		}
	}
}
