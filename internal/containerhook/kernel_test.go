package containerhook

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
	"github.com/containerhook/containerhook/internal/event"
)

func TestWhatTheKernelTellsBecomesAnInput(t *testing.T) {
	of := bpf.TraceTask{Tgid: 20, Tid: 21, StartBoottime: 123_456_789_999, Cgroup: 5, PidNs: 7}
	process := event.Process{PID: 20, StartTicks: 12345, CgroupID: 5, Namespaces: event.Namespaces{PID: 7}}
	for _, c := range []struct {
		what  string
		event bpf.TraceEvent
		want  tracker.Input
	}{
		{"a fork", bpf.TraceEvent{Kind: bpf.TraceKindFORK, Role: bpf.TraceRoleINIT, Task: of, Runtime: 10},
			tracker.Forked{At: noon, Runtime: 10, Init: process}},
		{"an init's exec", bpf.TraceEvent{Kind: bpf.TraceKindEXEC, Role: bpf.TraceRoleINIT, Task: of, Runtime: 10},
			tracker.Execed{At: noon, Runtime: 10, Process: process}},
		{"a child's exec", bpf.TraceEvent{Kind: bpf.TraceKindEXEC, Role: bpf.TraceRoleCHILD, Task: of, Runtime: 10},
			tracker.Execed{At: noon, Runtime: 10, Process: process, IsChild: true}},
		{"an init's exit", bpf.TraceEvent{Kind: bpf.TraceKindEXIT, Role: bpf.TraceRoleUSER, Task: of, Runtime: 10, Status: 3 << 8},
			tracker.Exited{At: noon, Process: process, Code: 3}},
		{"an init that was never started", bpf.TraceEvent{Kind: bpf.TraceKindEXIT, Role: bpf.TraceRoleINIT, Task: of, Status: 9, Oom: 1},
			tracker.Exited{At: noon, Process: process, Code: 137, Signal: 9, OOM: true}},
		{"a runtime's exit", bpf.TraceEvent{Kind: bpf.TraceKindEXIT, Role: bpf.TraceRoleRUNTIME, Task: of, Runtime: 20, Status: 1 << 8},
			tracker.Exited{At: noon, Process: process, Code: 1, IsRuntime: true}},
		{"out of memory", bpf.TraceEvent{Kind: bpf.TraceKindOOM, Task: of, Runtime: 30}, tracker.OOMKilled{Init: 30}},
	} {
		got := kernelInput(&c.event, noon)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(tracker.Forked{}, tracker.Execed{}, tracker.Exited{}, tracker.OOMKilled{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestWhatIsNotKnownIsNoInput(t *testing.T) {
	if got := kernelInput(&bpf.TraceEvent{Kind: 99}, noon); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestExitCodesAreThoseThatRuntimesReport(t *testing.T) {
	const coreDumped = 0x80
	for status, want := range map[unix.WaitStatus]int32{
		0: 0, 3 << 8: 3, 255 << 8: 255,
		unix.WaitStatus(unix.SIGKILL):              137,
		unix.WaitStatus(unix.SIGTERM):              143,
		unix.WaitStatus(unix.SIGSEGV | coreDumped): 139,
	} {
		if got := exitCode(status); got != want {
			t.Errorf("status %#x: %d, want %d", status, got, want)
		}
	}
}

func TestTheKernelsClockBecomesTheTimeOfDay(t *testing.T) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		t.Fatal(err)
	}
	ago := sinceBoot(uint64(boot.Nano() - int64(time.Hour)))
	if age := time.Since(ago); age < time.Hour || age > time.Hour+time.Minute {
		t.Errorf("an hour ago is %v ago", age)
	}
}

// The kernel counts in ns, /proc in 1/100 s: an identity must be the same from both.
func TestStartTicksAreThoseOfProc(t *testing.T) {
	for ns, want := range map[uint64]uint64{0: 0, 9_999_999: 0, 10_000_000: 1, 123_456_789_999: 12345} {
		if got := task.ProcessOf(&bpf.LookupTask{StartBoottime: ns}).StartTicks; got != want {
			t.Errorf("%d ns: tick %d, want %d", ns, got, want)
		}
	}
}
