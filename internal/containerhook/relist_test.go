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
	"github.com/containerhook/containerhook/internal/hook"
)

func TestUnreadIsNotWhatIsNoContainer(t *testing.T) {
	l := &oci.Listed{Root: "/run/runc"}
	if got := unread(l, hostfs.PathError("list", l.Root, oci.ErrBadID)); got != nil {
		t.Errorf("a bad ID hides %v", got)
	}
	if diff := cmp.Diff([]tracker.Instance{{Root: "/run/runc"}}, unread(l, oci.ErrNotJSON)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func listedHook(t *testing.T, state string) *Hook {
	t.Helper()
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"run/runc/a/state.json": state, "b/config.json": `{"hostname":"h"}`})
	return &Hook{o: Options{HostRoot: dir}, metrics: newMetrics(prometheus.NewRegistry(), hostfs.NewReads()), reads: hostfs.NewReads(), programs: &task.Programs{}, hostProc: "/proc",
		host: hosttest.Open(t, hostfs.Open, dir), inputs: make(chan tracker.Input)}
}

func listOnce(h *Hook, tr *tracker.Tracker) (in tracker.Inventory, told []hook.Event) {
	done := make(chan struct{})
	go func() { defer close(done); h.list(context.Background(), false) }()
	for {
		next := <-h.inputs
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

func TestListKeepsNoConfigOfWhatIsKnown(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("what root's runtimes keep is root's")
	}
	h, tr := listedHook(t, stateOfSelf(t, 0)), tracker.New()
	in, told := listOnce(h, tr)
	if len(in.Entries) != 1 || in.Entries[0].Spec == nil || len(told) != 1 || told[0].Spec.Hostname != "h" {
		t.Fatalf("listed %+v, told %+v", in.Entries, told)
	}
	in, told = listOnce(h, tr)
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
		in, _ := listOnce(listedHook(t, test.state), tracker.New())
		if len(in.Entries) != test.entry || len(in.Unread) != test.unread || test.entry > 0 && in.Entries[0].Alive {
			t.Errorf("%s: %+v, unread %v", name, in.Entries, in.Unread)
		}
	}
	h := listedHook(t, stateOfSelf(t, 0))
	h.hostProc = t.TempDir()
	hosttest.MakeTree(t, h.hostProc, map[string]string{filepath.Join(fmt.Sprint(os.Getpid()), "stat"): "/"}) // not to be read
	if in, told := listOnce(h, tracker.New()); len(in.Entries) != 0 || len(in.Unread) != 1 || len(told) > 0 {
		t.Errorf("a process that cannot be looked at: %+v, unread %v, told %v", in.Entries, in.Unread, told)
	}
}

func TestExamineDoesNotBelieveAUserOfProcessesThatAreNotHis(t *testing.T) {
	for _, rootless := range []bool{true, false} {
		h := &Hook{hostProc: "/proc", programs: &task.Programs{}, o: Options{Rootless: rootless}}
		e, _, err := h.examine(&oci.Listed{State: oci.State{PID: int32(os.Getpid()), UID: 4_000_000}})
		if !errors.Is(err, errNotTheirs) || e.Alive {
			t.Errorf("%+v, %v", e, err)
		}
	}
}
