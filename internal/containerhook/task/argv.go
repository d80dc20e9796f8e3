package task

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/containerhook/containerhook/bpf"
)

// maxArgv bounds what is read of one command: far above any runtime's (the kernel allows 2 MiB), and no burden.
const maxArgv = 256 << 10

var errArgvTooLong = errors.New("the arguments are too long")

// ArgvReader reads the arguments of a task that is held in execve. Safe for concurrent use.
type ArgvReader struct {
	hostProc string

	program *ebpf.Program // nil before 6.2
	bss     *ebpf.Map
	rowsAt  int64 // offset of the program's copy in bss

	mu   sync.Mutex // guards the one copy that the program makes, and ours
	rows bpf.ArgvRows
}

// OpenArgvReader never fails: where the program cannot be loaded (before 6.2), every argv is read from the task's
// memory file. The error says why, for the log.
func OpenArgvReader(hostProc string, kernel *btf.Spec) (*ArgvReader, error) {
	r := &ArgvReader{hostProc: hostProc}
	spec, err := bpf.LoadArgv()
	if err != nil {
		return r, fmt.Errorf("read the argv program: %w", err)
	}
	copied := spec.Variables[bpf.ArgvVarCopied]

	collection, err := load(spec, kernel)
	if err != nil {
		return r, fmt.Errorf("load the argv program: %w", err)
	}
	defer collection.Close() // closes what is not detached below
	r.program, r.bss, r.rowsAt = collection.DetachProgram(bpf.ArgvProgCopyArgv), collection.DetachMap(copied.SectionName), int64(copied.Offset)
	return r, nil
}

// Close unloads the program.
func (r *ArgvReader) Close() error {
	if r.program == nil {
		return nil
	}
	return errors.Join(r.program.Close(), r.bss.Close())
}

// Read returns the arguments of t. t must be held: its memory is read as it is now. It may take as long as that memory
// does: a page may be a file's on a file system that hangs.
func (r *ArgvReader) Read(t *Task) ([]string, error) {
	// The program has one copy. Who does not get it reads the slow way, rather than wait for a stranger's memory.
	if r.program != nil && r.mu.TryLock() {
		args, ok := r.copied(t)
		r.mu.Unlock()
		if ok {
			return args, nil
		}
	}

	mem, err := os.Open(filepath.Join(r.hostProc, strconv.FormatUint(uint64(t.Tid), 10), "mem"))
	if err != nil {
		return nil, fmt.Errorf("open the task's memory: %w", err)
	}
	defer mem.Close()
	return readArgv(mem, t.Argv)
}

// copied asks the program for the arguments. It is false for what does not fit there (bpf/argv.bpf.c).
func (r *ArgvReader) copied(t *Task) ([]string, bool) {
	in, out := bpf.ArgvQuestion{Pointer: t.Argv, GlobalTid: t.GlobalTID}, bpf.ArgvQuestion{}
	if _, err := r.program.Run(&ebpf.RunOptions{Context: in, ContextOut: &out}); err != nil || out.Status != bpf.ArgvStatusCOPIED {
		return nil, false
	}
	memory, err := r.bss.Memory()
	if err != nil {
		return nil, false
	}

	// Only the rows that are in use: the whole copy has 16 KiB.
	rows := bytesOf(&r.rows)[:int(out.Count)*len(r.rows.Args[0])]
	if _, err := memory.ReadAt(rows, r.rowsAt); err != nil {
		return nil, false
	}
	args := make([]string, out.Count)
	for i := range args {
		row := r.rows.Args[i][:]
		end := bytes.IndexByte(row, 0)
		if end < 0 {
			return nil, false
		}
		args[i] = string(row[:end])
	}
	return args, true
}

// readArgv reads the NULL-terminated array of strings at address at in a task's memory, maxArgv bytes in all.
func readArgv(mem io.ReaderAt, at uint64) ([]string, error) {
	var args []string
	pointers, strings := window{mem: mem}, window{mem: mem}
	for left := maxArgv; ; at += 8 {
		address, err := pointers.pointer(at)
		if err != nil {
			return nil, fmt.Errorf("read argv[%d]'s pointer: %w", len(args), err)
		}
		if address == 0 {
			return args, nil
		}
		arg, err := strings.text(address, left)
		if err != nil {
			return nil, fmt.Errorf("read argv[%d]: %w", len(args), err)
		}
		if left -= len(arg) + 8 + 1; left < 0 {
			return nil, errArgvTooLong
		}
		args = append(args, arg)
	}
}

// window is what was read of a page last. Arguments and their pointers lie side by side: a page is read once for all of
// them, and not two pages for each, which for the longest command lines took as long as it may be held.
type window struct {
	mem  io.ReaderAt
	at   uint64
	data []byte
	page [pageSize]byte
}

// pageSize is the least there is. A read ends where a page does: what lies behind it may not be mapped.
const pageSize = 4096

// from is what the page of address holds from there on.
func (w *window) from(address uint64) ([]byte, error) {
	if offset := address - w.at; address >= w.at && offset < uint64(len(w.data)) {
		return w.data[offset:], nil
	}
	part := w.page[:pageSize-address%pageSize]
	if _, err := w.mem.ReadAt(part, int64(address)); err != nil {
		w.data = nil
		return nil, err
	}
	w.at, w.data = address, part
	return part, nil
}

func (w *window) pointer(at uint64) (uint64, error) {
	var pointer [8]byte
	for read := 0; read < len(pointer); {
		part, err := w.from(at + uint64(read))
		if err != nil {
			return 0, err
		}
		read += copy(pointer[read:], part)
	}
	return binary.NativeEndian.Uint64(pointer[:]) & (1<<56 - 1), nil // arm64 tags; never set on x86_64
}

// text reads up to a NUL.
func (w *window) text(at uint64, limit int) (string, error) {
	var s []byte
	for len(s) <= limit {
		part, err := w.from(at)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(s, part[:end]...)), nil
		}
		s = append(s, part...)
		at += uint64(len(part))
	}
	return "", errArgvTooLong
}
