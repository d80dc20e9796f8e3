package containerhook

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/task"
	"github.com/containerhook/containerhook/internal/containerhook/tracker"
)

// kernelInput is what the tracer reports, as an input of the tracker.
func kernelInput(e *bpf.TraceEvent, at time.Time) tracker.Input {
	t := bpf.LookupTask(e.Task)
	p := task.ProcessOf(&t)
	switch e.Kind {
	case bpf.TraceKindFORK:
		return tracker.Forked{At: at, Runtime: int32(e.Runtime), Init: p}
	case bpf.TraceKindEXEC:
		return tracker.Execed{At: at, Runtime: int32(e.Runtime), Process: p, IsChild: e.Role == bpf.TraceRoleCHILD}
	case bpf.TraceKindEXIT:
		status := unix.WaitStatus(uint32(e.Status))
		x := tracker.Exited{At: at, Process: p, Code: exitCode(status), OOM: e.Oom != 0, IsRuntime: e.Role == bpf.TraceRoleRUNTIME}
		if status.Signaled() {
			x.Signal = int32(status.Signal())
		}
		return x
	case bpf.TraceKindOOM:
		return tracker.OOMKilled{Init: int32(e.Runtime)}
	}
	return nil
}

// exitCode is the code that runtimes report: 128 + the signal for one that was killed.
func exitCode(s unix.WaitStatus) int32 {
	if s.Signaled() {
		return 128 + int32(s.Signal())
	}
	return int32(s.ExitStatus())
}

// sinceBoot turns the kernel's clock (CLOCK_BOOTTIME, ns) into the time of day.
func sinceBoot(ns uint64) time.Time {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(int64(ns) - boot.Nano()))
}
