package containerhook

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// kernelInput is what the tracer reports, as an input of the tracker.
func kernelInput(e *bpf.TraceEvent, at time.Time) input {
	t := bpf.LookupTask(e.Task)
	p := task.ProcessOf(&t)
	switch e.Kind {
	case bpf.TraceKindFORK:
		return forked{at: at, runtime: int32(e.Runtime), init: p}
	case bpf.TraceKindEXEC:
		return execed{at: at, runtime: int32(e.Runtime), process: p, isChild: e.Role == bpf.TraceRoleCHILD}
	case bpf.TraceKindEXIT:
		x := exited{at: at, process: p, status: unix.WaitStatus(uint32(e.Status)), oom: e.Oom != 0}
		x.isRuntime = e.Role == bpf.TraceRoleRUNTIME
		return x
	case bpf.TraceKindOOM:
		return oomed{init: int32(e.Runtime)}
	}
	return nil
}

// sinceBoot turns the kernel's clock (CLOCK_BOOTTIME, ns) into the time of day.
func sinceBoot(ns uint64) time.Time {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(int64(ns) - boot.Nano()))
}
