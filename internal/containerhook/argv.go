package containerhook

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

	"github.com/containerhook/containerhook/bpf"
)

// maxArgv bounds what is read of one command: far above any runtime's (the kernel allows 2 MiB), and no burden.
const maxArgv = 256 << 10

var errArgvTooLong = errors.New("the arguments are too long")

// argvReader reads the arguments of a task that is held in execve. Safe for concurrent use.
type argvReader struct {
	hostProc string

	objs *bpf.ArgvObjects
	mu   sync.Mutex // guards the one copy that the program makes, and ours
	rows bpf.ArgvRows
}

// newArgvReader never fails: where the program cannot be loaded (before 6.2), every argv is read from the task's
// memory file. The error says why, for the log.
func newArgvReader(hostProc string) (*argvReader, error) {
	r := &argvReader{hostProc: hostProc}
	var objs bpf.ArgvObjects
	if err := bpf.LoadArgvObjects(&objs, nil); err != nil {
		return r, fmt.Errorf("load the argv program: %w", err)
	}
	r.objs = &objs
	return r, nil
}

// Close unloads the program.
func (r *argvReader) Close() error {
	if r.objs == nil {
		return nil
	}
	return r.objs.Close()
}

// read returns the arguments of t. t must be held: its memory is read as it is now.
func (r *argvReader) read(t *task) ([]string, error) {
	if r.objs != nil {
		if args, ok := r.copied(t); ok {
			return args, nil
		}
	}
	mem, err := os.Open(filepath.Join(r.hostProc, strconv.FormatUint(uint64(t.Tid), 10), "mem"))
	if err != nil {
		return nil, fmt.Errorf("open the task's memory: %w", err)
	}
	defer mem.Close()
	return readArgv(mem, t.argv)
}

// copied asks the program for the arguments. It is false for what does not fit there (bpf/argv.bpf.c).
func (r *argvReader) copied(t *task) ([]string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, out := bpf.ArgvQuestion{Pointer: t.argv, GlobalTid: t.globalTID}, bpf.ArgvQuestion{}
	if _, err := r.objs.CopyArgv.Run(&ebpf.RunOptions{Context: in, ContextOut: &out}); err != nil {
		return nil, false
	}
	if out.Status != bpf.ArgvStatusCOPIED || r.objs.Copied.Get(&r.rows) != nil {
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
	for left := maxArgv; ; at += 8 {
		var pointer [8]byte
		if _, err := mem.ReadAt(pointer[:], int64(at)); err != nil {
			return nil, fmt.Errorf("read argv[%d]'s pointer: %w", len(args), err)
		}
		address := binary.NativeEndian.Uint64(pointer[:]) & (1<<56 - 1) // arm64 tags; never set on x86_64
		if address == 0 {
			return args, nil
		}
		arg, err := readString(mem, address, left)
		if err != nil {
			return nil, fmt.Errorf("read argv[%d]: %w", len(args), err)
		}
		if left -= len(arg) + len(pointer) + 1; left < 0 {
			return nil, errArgvTooLong
		}
		args = append(args, arg)
	}
}

// readString reads up to a NUL. Each read ends where a page does: what lies behind may not be mapped.
func readString(mem io.ReaderAt, at uint64, limit int) (string, error) {
	const page = 4096
	var s []byte
	for len(s) <= limit {
		part := make([]byte, page-at%page)
		if _, err := mem.ReadAt(part, int64(at)); err != nil {
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
