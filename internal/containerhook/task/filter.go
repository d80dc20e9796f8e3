package task

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/containerhook/containerhook/bpf"
)

// Filter has Lookup.OfEvent say of a held exec that its arguments name no container (bpf/filter.bpf.c). Without it all may
// name one.
type Filter struct {
	program *ebpf.Program
	link    link.Link // kept: the collector detaches what nobody refers to
}

// filterTargets are the names that the function has had by which the kernel queues an event.
var filterTargets = []string{"fsnotify_insert_event", "fsnotify_add_event"}

// OpenFilter loads and attaches the program for the events of group, a fanotify group's descriptor that l is asked with. It
// fails where the kernel cannot attach to a function: before 5.5 on amd64, and 6.4 on arm64.
func OpenFilter(l *Lookup, group int, kernel *btf.Spec) (*Filter, error) {
	var err error
	for _, target := range filterTargets {
		var f *Filter
		if f, err = openFilter(l, group, kernel, target); !errors.Is(err, ebpf.ErrNotSupported) { // this kernel has it
			return f, err
		}
	}
	return nil, err
}

func openFilter(l *Lookup, group int, kernel *btf.Spec, target string) (*Filter, error) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		return nil, fmt.Errorf("read the filter programs: %w", err)
	}
	if err := setSizes(spec.Variables[bpf.FilterVarPageSize], spec.Variables[bpf.FilterVarThreadSize]); err != nil {
		return nil, err
	}
	spec.Programs[bpf.FilterProgOnEvent].AttachTo = target
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: kernel},
		MapReplacements: map[string]*ebpf.Map{bpf.FilterMapQuiet: l.quiet}})
	if err != nil {
		return nil, fmt.Errorf("load the filter programs: %w", err)
	}
	defer collection.Close() // closes what is not detached below

	var call run
	if err := call.program(collection.Programs[bpf.FilterProgWatchGroup].FD(), uint64(group)); err != nil {
		return nil, fmt.Errorf("name the group: %w", err)
	}
	onEvent := collection.DetachProgram(bpf.FilterProgOnEvent)
	attached, err := link.AttachTracing(link.TracingOptions{Program: onEvent})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to %s: %w", target, err), onEvent.Close())
	}
	return &Filter{onEvent, attached}, nil
}

// Close detaches and unloads.
func (f *Filter) Close() error { return errors.Join(f.link.Close(), f.program.Close()) }
