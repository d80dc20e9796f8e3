package containerhook

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
)

// life follows runtimes and inits through the kernel's fork, exec and exit (bpf/life.bpf.c).
type life struct {
	objs   bpf.LifeObjects
	links  []link.Link // kept: the collector detaches what nobody refers to
	events *ringbuf.Reader
}

// openLife loads and attaches the programs. Nothing is followed yet.
func openLife(w *who) (*life, error) {
	spec, err := bpf.LoadLife()
	if err != nil {
		return nil, fmt.Errorf("read the life programs: %w", err)
	}
	if err := errors.Join(spec.Variables[bpf.LifeVarHostLevel].Set(w.hostLevel),
		spec.Variables[bpf.LifeVarHostPidns].Set(w.hostPIDNS)); err != nil {
		return nil, fmt.Errorf("say which PID namespace is the host's: %w", err)
	}
	l := &life{}
	if err := spec.LoadAndAssign(&l.objs, nil); err != nil {
		return nil, fmt.Errorf("load the life programs: %w", err)
	}
	if err := l.attach(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *life) attach() (err error) {
	for _, program := range []*ebpf.Program{l.objs.ForkBtf, l.objs.ExecBtf, l.objs.ExitBtf} {
		attached, err := link.AttachTracing(link.TracingOptions{Program: program})
		if err != nil {
			return fmt.Errorf("attach %s: %w", program, err)
		}
		l.links = append(l.links, attached)
	}
	for name, program := range map[string]*ebpf.Program{"sched_process_fork": l.objs.ForkRaw,
		"sched_process_exec": l.objs.ExecRaw, "sched_process_exit": l.objs.ExitRaw} {
		attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: program})
		if err != nil {
			return fmt.Errorf("attach %s: %w", program, err)
		}
		l.links = append(l.links, attached)
	}
	if l.events, err = ringbuf.NewReader(l.objs.Events); err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	return nil
}

// Close detaches and unloads. run returns.
func (l *life) Close() error {
	var errs []error
	if l.events != nil {
		errs = append(errs, l.events.Close())
	}
	for _, attached := range l.links {
		errs = append(errs, attached.Close())
	}
	return errors.Join(append(errs, l.objs.Close())...)
}

// followRuntime has everything below t followed, until t ends. t must still be held.
func (l *life) followRuntime(t *task) error {
	return l.follow(t, bpf.LifeRoleRUNTIME)
}

// followInit has the end of an init reported that its runtime's tree does not show, and its exec where it waits for its
// start: one in the host's PID namespace, or one that was there before the agent. It may have ended before this; look
// again afterwards.
func (l *life) followInit(t *task, waiting bool) error {
	if waiting {
		return l.follow(t, bpf.LifeRoleINIT)
	}
	if err := l.follow(t, bpf.LifeRoleUSER); err != nil {
		return err
	}
	if err := l.objs.Memcgs.Put(t.Memcg, t.Tgid); err != nil {
		return fmt.Errorf("follow the memory cgroup of pid %d: %w", t.Tgid, err)
	}
	return nil
}

func (l *life) follow(t *task, role bpf.LifeRole) error {
	f := bpf.LifeFollowed{StartBoottime: t.StartBoottime, Runtime: t.Tgid, Level: t.Level, Role: role}
	if role == bpf.LifeRoleUSER {
		f.Memcg = t.Memcg
	}
	if err := l.objs.Followed.Put(t.Tgid, f); err != nil {
		return fmt.Errorf("follow pid %d: %w", t.Tgid, err)
	}
	return nil
}

// below says whether pid is a process that a runtime made: what it executes is the runtime's own affair.
func (l *life) below(pid uint32) bool {
	var f bpf.LifeFollowed
	return l.objs.Followed.Lookup(pid, &f) == nil && f.Role != bpf.LifeRoleRUNTIME
}

// lost is how many events the kernel had no room for, since the start.
func (l *life) lost() uint64 {
	var n uint64
	_ = l.objs.EventsLost.Get(&n) // fails only before 5.5, where nothing of this loads
	return n
}

// run sends what happens to the followed, in order, until ctx ends.
func (l *life) run(ctx context.Context, send func(input)) error {
	stop := context.AfterFunc(ctx, func() { l.events.Close() })
	defer stop()
	var record ringbuf.Record
	for {
		if err := l.events.ReadInto(&record); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read the ring buffer: %w", err)
		}
		var e bpf.LifeEvent
		if _, err := binary.Decode(record.RawSample, binary.NativeEndian, &e); err != nil {
			return fmt.Errorf("decode an event: %w", err)
		}
		if in := kernelInput(&e, sinceBoot(e.Time)); in != nil {
			send(in)
		}
	}
}

// kernelInput says in the tracker's words what the kernel told.
func kernelInput(e *bpf.LifeEvent, at time.Time) input {
	task := bpf.WhoTask(e.Task)
	p := processOf(&task)
	switch e.Kind {
	case bpf.LifeKindFORK:
		return forked{at: at, runtime: int32(e.Runtime), init: p}
	case bpf.LifeKindEXEC:
		return execed{at: at, runtime: int32(e.Runtime), process: p, isChild: e.Role == bpf.LifeRoleCHILD}
	case bpf.LifeKindEXIT:
		x := exited{at: at, process: p, status: unix.WaitStatus(uint32(e.Status)), oom: e.Oom != 0}
		x.isRuntime = e.Role == bpf.LifeRoleRUNTIME
		return x
	case bpf.LifeKindOOM:
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
