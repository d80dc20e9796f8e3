package task

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/event"
)

// Programs are the descriptors that a worker needs, as the gate loaded them. A nil member could not be loaded.
type Programs struct {
	Lookup *Lookup // for the worker alone: its answers are not the gate's
	Argv   *ArgvReader
	Tracer *Tracer
}

// Host is what FromFDs cannot learn from descriptors.
type Host struct {
	Level, PIDNS uint32
	Namespaces   event.Namespaces
}

// Host is what a worker's FromFDs needs to know of the host.
func (l *Lookup) Host() Host { return Host{l.hostLevel, l.hostPIDNS, l.HostNamespaces} }

// Descriptors a worker inherits, in this order; absent ones are -1.
const (
	fdOfProcDir = iota
	fdLookupBSS
	fdCopyArgv
	fdArgvBSS
	fdFollowed
	fdMemcgs
	fdEvents
	fdTraceBSS
	// FDCount is how many there are.
	FDCount
)

// FDs are the descriptors to inherit, -1 for what there is not.
func (p *Programs) FDs() [FDCount]int {
	var fds [FDCount]int
	for i := range fds {
		fds[i] = -1
	}
	if l := p.Lookup; l != nil {
		fds[fdOfProcDir], fds[fdLookupBSS] = l.ofProcDir.FD(), l.bss.FD()
	}
	if a := p.Argv; a != nil && a.program != nil {
		fds[fdCopyArgv], fds[fdArgvBSS] = a.program.FD(), a.bss.FD()
	}
	if t := p.Tracer; t != nil {
		fds[fdFollowed], fds[fdMemcgs], fds[fdEvents], fds[fdTraceBSS] = t.followed.FD(), t.memcgs.FD(), t.events.FD(), t.bss.FD()
	}
	return fds
}

// FromFDs opens what FDs gave another process. It takes the descriptors over; release closes them, and ends Tracer.Run.
func FromFDs(fds [FDCount]int, host Host, hostProc string) (p *Programs, release func() error, err error) {
	var closers []func() error
	release = func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	program := func(i int) (o *ebpf.Program) {
		if err == nil && fds[i] >= 0 {
			if o, err = ebpf.NewProgramFromFD(fds[i]); err == nil {
				closers = append(closers, o.Close)
			}
		}
		return o
	}
	table := func(i int) (o *ebpf.Map) {
		if err == nil && fds[i] >= 0 {
			if o, err = ebpf.NewMapFromFD(fds[i]); err == nil {
				closers = append(closers, o.Close)
			}
		}
		return o
	}
	offset := func(load func() (*ebpf.CollectionSpec, error), variable string) int64 {
		var spec *ebpf.CollectionSpec
		if err == nil {
			if spec, err = load(); err == nil {
				return int64(spec.Variables[variable].Offset)
			}
		}
		return 0
	}

	p = &Programs{}
	if ofProcDir := program(fdOfProcDir); ofProcDir != nil {
		p.Lookup = &Lookup{HostNamespaces: host.Namespaces, hostLevel: host.Level, hostPIDNS: host.PIDNS,
			ofProcDir: ofProcDir, bss: table(fdLookupBSS), answerAt: offset(bpf.LoadLookup, bpf.LookupVarFound)}
	}
	p.Argv = &ArgvReader{hostProc: hostProc}
	if copyArgv := program(fdCopyArgv); copyArgv != nil {
		p.Argv.program, p.Argv.bss, p.Argv.rowsAt = copyArgv, table(fdArgvBSS), offset(bpf.LoadArgv, bpf.ArgvVarCopied)
	}
	if followed := table(fdFollowed); followed != nil {
		t := &Tracer{followed: followed, memcgs: table(fdMemcgs), events: table(fdEvents), bss: table(fdTraceBSS),
			lostAt: offset(bpf.LoadTrace, bpf.TraceVarEventsLost)}
		if err == nil {
			t.reader, err = ringbuf.NewReader(t.events)
		}
		if err == nil {
			closers = append(closers, t.reader.Close)
		}
		p.Tracer = t
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the inherited programs: %w", err), release())
	}
	return p, release, nil
}

// File is a file for an inherited descriptor, nil for one that is not there.
func File(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}
