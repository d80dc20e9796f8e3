package task

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls of bpf(2) on the way that holds a container. They never wait, and are made past Go's scheduler: where it knows of a
// call it wakes its monitor thread (sysmon), which looks every 20 µs whether that has returned.

// runAttr is union bpf_attr for BPF_PROG_TEST_RUN (linux/bpf.h).
type runAttr struct {
	program, returned     uint32
	_                     [2]uint32 // sizes of data
	_                     [2]uint64 // data
	_, _                  uint32    // repeat, duration
	contextSize, _        uint32
	context, _            uint64
	flags, cpu, batchSize uint32
	_                     uint32
}

// maxArgs is how many arguments a raw tracepoint's test run takes.
const maxArgs = 12

// run is one call; both are in its memory, which does not move. For one call at a time.
type run struct {
	attr runAttr
	args [maxArgs]uint64
}

// program runs a raw tracepoint program once, in this thread, with args.
func (r *run) program(fd int, args ...uint64) error {
	n := copy(r.args[:], args)
	r.attr = runAttr{program: uint32(fd), contextSize: uint32(8 * n), context: uint64(uintptr(unsafe.Pointer(&r.args)))}
	if _, _, errno := unix.RawSyscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&r.attr)), unsafe.Sizeof(r.attr)); errno != 0 {
		return fmt.Errorf("run a BPF program: %w", errno)
	}
	return nil
}

// elemAttr is union bpf_attr for BPF_MAP_LOOKUP_ELEM.
type elemAttr struct {
	table uint32
	_     uint32
	key   uint64
	value uint64
	flags uint64
}

// lookUp is one call, as run.
type lookUp struct {
	attr elemAttr
	key  uint32
}

// element copies what a hash has at key to value, which must be on the heap and of the hash's size.
func (l *lookUp) element(fd int, key uint32, value unsafe.Pointer) bool {
	l.key = key
	l.attr = elemAttr{table: uint32(fd), key: uint64(uintptr(unsafe.Pointer(&l.key))), value: uint64(uintptr(value))}
	_, _, errno := unix.RawSyscall(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM, uintptr(unsafe.Pointer(&l.attr)), unsafe.Sizeof(l.attr))
	return errno == 0
}
