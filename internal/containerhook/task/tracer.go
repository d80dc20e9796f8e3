package task

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
)

// Tracer follows runtimes and inits through the kernel's fork, exec and exit (bpf/trace.bpf.c). What it follows and what
// it has reported stay in the kernel while any process has it open: a worker's restart loses neither.
type Tracer struct {
	programs []*ebpf.Program
	links    []link.Link // kept: the collector detaches what nobody refers to

	followed, memcgs, events, bss *ebpf.Map
	lostAt                        int64           // offset of events_lost in bss
	reader                        *ringbuf.Reader // nil in the gate

	call  lookUp             // of IsRuntimeChild
	child *bpf.TraceFollowed // what it found
}

// OpenTracer loads and attaches the programs. Nothing is followed yet, and nothing read: a worker does that.
func OpenTracer(l *Lookup, kernel *btf.Spec) (*Tracer, error) {
	spec, err := bpf.LoadTrace()
	if err != nil {
		return nil, fmt.Errorf("read the trace programs: %w", err)
	}
	if err := errors.Join(spec.Variables[bpf.TraceVarHostLevel].Set(l.hostLevel),
		spec.Variables[bpf.TraceVarHostPidns].Set(l.hostPIDNS)); err != nil {
		return nil, fmt.Errorf("say which PID namespace is the host's: %w", err)
	}
	lost := spec.Variables[bpf.TraceVarEventsLost]

	collection, err := load(spec, kernel)
	if err != nil {
		return nil, fmt.Errorf("load the trace programs: %w", err)
	}
	defer collection.Close() // closes what is not detached below
	t := &Tracer{followed: collection.DetachMap(bpf.TraceMapFollowed), memcgs: collection.DetachMap(bpf.TraceMapMemcgs),
		events: collection.DetachMap(bpf.TraceMapEvents), bss: collection.DetachMap(lost.SectionName), lostAt: int64(lost.Offset),
		child: &bpf.TraceFollowed{}}
	if err := t.attach(collection); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Tracer) attach(c *ebpf.Collection) error {
	for _, name := range []string{bpf.TraceProgForkBtf, bpf.TraceProgExecBtf, bpf.TraceProgExitBtf} {
		program := c.DetachProgram(name)
		t.programs = append(t.programs, program)
		attached, err := link.AttachTracing(link.TracingOptions{Program: program})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		t.links = append(t.links, attached)
	}
	for tracepoint, name := range map[string]string{"sched_process_fork": bpf.TraceProgForkRaw,
		"sched_process_exec": bpf.TraceProgExecRaw, "sched_process_exit": bpf.TraceProgExitRaw} {
		program := c.DetachProgram(name)
		t.programs = append(t.programs, program)
		attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: program})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		t.links = append(t.links, attached)
	}
	return nil
}

// Close detaches and unloads.
func (t *Tracer) Close() error {
	var errs []error
	for _, attached := range t.links {
		errs = append(errs, attached.Close())
	}
	for _, program := range t.programs {
		errs = append(errs, program.Close())
	}
	return errors.Join(append(errs, t.followed.Close(), t.memcgs.Close(), t.events.Close(), t.bss.Close())...)
}

// FollowRuntime has everything below task followed, until it ends. It must still be held.
func (t *Tracer) FollowRuntime(task *Task) error {
	return t.follow(task, bpf.TraceRoleRUNTIME)
}

// FollowInit has the end of an init reported that its runtime's tree does not show, and its exec where it waits for its
// start: one in the host's PID namespace, or one that was there before the agent. It may have ended before this; look
// again afterwards.
func (t *Tracer) FollowInit(task *Task, waiting bool) error {
	if waiting {
		return t.follow(task, bpf.TraceRoleINIT)
	}
	if err := t.follow(task, bpf.TraceRoleUSER); err != nil {
		return err
	}
	if err := t.memcgs.Put(task.Memcg, task.Tgid); err != nil {
		return fmt.Errorf("follow the memory cgroup of pid %d: %w", task.Tgid, err)
	}
	return nil
}

func (t *Tracer) follow(task *Task, role bpf.TraceRole) error {
	f := bpf.TraceFollowed{StartBoottime: task.StartBoottime, Runtime: task.Tgid, Level: task.Level, Role: role}
	if role == bpf.TraceRoleUSER {
		f.Memcg = task.Memcg
	}
	if err := t.followed.Put(task.Tgid, f); err != nil {
		return fmt.Errorf("follow pid %d: %w", task.Tgid, err)
	}
	return nil
}

// IsRuntimeChild reports whether pid is a process that a followed runtime made: what it executes is the runtime's own
// affair. For one goroutine.
func (t *Tracer) IsRuntimeChild(pid uint32) bool {
	return t.call.element(t.followed.FD(), pid, unsafe.Pointer(t.child)) && t.child.Role != bpf.TraceRoleRUNTIME
}

// Lost is how many events the kernel had no room for, since the programs were loaded.
func (t *Tracer) Lost() uint64 {
	memory, err := t.bss.Memory()
	if err != nil {
		return 0 // fails only before 5.5, where nothing of this loads
	}
	var n uint64
	_, _ = memory.ReadAt(bytesOf(&n), t.lostAt)
	return n
}

// Run gives handle what happens to the followed, in order, until ctx ends. The event is valid until handle returns.
func (t *Tracer) Run(ctx context.Context, handle func(*bpf.TraceEvent)) error {
	ring, err := pollable(t.events.FD())
	if err != nil {
		return fmt.Errorf("wait for the ring buffer: %w", err)
	}
	defer ring.Close()
	defer context.AfterFunc(ctx, func() { ring.Close() })()
	conn, err := ring.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for the ring buffer: %w", err)
	}

	// Go's poller waits, for the library's own keeps a thread, and has Go's monitor thread look after that all the time.
	t.reader.SetDeadline(time.Unix(1, 0))
	var record ringbuf.Record
	next := func(uintptr) bool {
		err = t.reader.ReadInto(&record)
		return !errors.Is(err, os.ErrDeadlineExceeded) // there is none
	}
	for {
		if waitErr := conn.Read(next); ctx.Err() != nil {
			return nil
		} else if err = errors.Join(waitErr, err); err != nil {
			return fmt.Errorf("read the ring buffer: %w", err)
		}
		var e bpf.TraceEvent
		if len(record.RawSample) < binary.Size(&e) {
			return fmt.Errorf("read the ring buffer: an event of %d bytes", len(record.RawSample))
		}
		copy(bytesOf(&e), record.RawSample)
		handle(&e)
	}
}

// pollable is fd once more, for Go's poller.
func pollable(fd int) (*os.File, error) {
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	if err := unix.SetNonblock(other, true); err != nil {
		return nil, errors.Join(fmt.Errorf("set a descriptor to not block: %w", err), unix.Close(other))
	}
	return os.NewFile(uintptr(other), "ring buffer"), nil
}
