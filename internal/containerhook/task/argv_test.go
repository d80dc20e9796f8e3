package task

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// memory is an address space: pages by their number; what is missing cannot be read, as in /proc/<pid>/mem. It counts
// the pages that were asked for.
type memory struct {
	pages map[uint64]*[pageSize]byte
	asked int
}

func newMemory() *memory { return &memory{pages: map[uint64]*[pageSize]byte{}} }

func (m *memory) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		page := m.pages[(uint64(at)+uint64(n))/pageSize]
		m.asked++
		if page == nil {
			if n == 0 {
				return 0, unix.EIO
			}
			return n, io.ErrUnexpectedEOF
		}
		n += copy(p[n:], page[(uint64(at)+uint64(n))%pageSize:])
	}
	return n, nil
}

// put writes data at an address and maps its pages.
func (m *memory) put(at uint64, data []byte) {
	for i, b := range data {
		number := (at + uint64(i)) / pageSize
		if m.pages[number] == nil {
			m.pages[number] = new([pageSize]byte)
		}
		m.pages[number][(at+uint64(i))%pageSize] = b
	}
}

// putArgv writes the array at an address, of pointers as they are.
func (m *memory) putArgv(at uint64, pointers ...uint64) {
	var array []byte
	for _, p := range append(pointers, 0) {
		array = binary.NativeEndian.AppendUint64(array, p)
	}
	m.put(at, array)
}

const (
	arrayAt  = 0x10000
	stringAt = 0x20000
)

func TestArgumentsAreReadWhereverTheyLie(t *testing.T) {
	m := newMemory()
	m.put(stringAt, []byte("runc\x00"))
	m.put(stringAt+pageSize-3, []byte("ab\x00"))                   // its NUL is the last byte that is mapped
	m.put(0x30000+pageSize-2, []byte("across\x00"))                // over a page's end
	m.put(0x40000, []byte(strings.Repeat("x", 3*pageSize)+"\x00")) // over several
	m.put(0x50000, []byte{0})
	m.putArgv(arrayAt+pageSize-16, stringAt, stringAt+pageSize-3, 0x30000+pageSize-2, 0x40000, 0x50000)
	got, err := readArgv(m, arrayAt+pageSize-16)
	want := []string{"runc", "ab", "across", strings.Repeat("x", 3*pageSize), ""}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("-want +got:\n%s%v", diff, err)
	}
}

func TestAnEmptyArgvIsRead(t *testing.T) {
	m := newMemory()
	m.putArgv(arrayAt)
	if got, err := readArgv(m, arrayAt); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTaggedPointersAreFollowed(t *testing.T) {
	m := newMemory()
	m.put(stringAt, []byte("runc\x00"))
	m.putArgv(arrayAt, 0xa5<<56|stringAt)
	if got, err := readArgv(m, arrayAt); err != nil || len(got) != 1 || got[0] != "runc" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatIsNotMappedIsAnError(t *testing.T) {
	unterminated := newMemory()
	unterminated.put(stringAt+pageSize-2, []byte("ab"))
	unterminated.putArgv(arrayAt, stringAt+pageSize-2)
	endless := newMemory()
	endless.put(stringAt, []byte("a\x00"))
	endless.put(arrayAt+pageSize-8, binary.NativeEndian.AppendUint64(nil, stringAt))
	wild := newMemory()
	wild.putArgv(arrayAt, 0xdead0000)
	for name, c := range map[string]struct {
		mem *memory
		at  uint64
	}{
		"the array":                   {newMemory(), arrayAt},
		"the array's next page":       {endless, arrayAt + pageSize - 8},
		"a string":                    {wild, arrayAt},
		"a string's next page":        {unterminated, arrayAt},
		"an address above all others": {newMemory(), 1<<64 - 8},
	} {
		if got, err := readArgv(c.mem, c.at); err == nil {
			t.Errorf("%s: %q without an error", name, got)
		}
	}
}

func TestArgumentsAreBounded(t *testing.T) {
	long := newMemory()
	long.put(0x100000, append(bytes.Repeat([]byte{'x'}, maxArgv-9), 0))
	long.putArgv(arrayAt, 0x100000)
	if got, err := readArgv(long, arrayAt); err != nil || len(got[0]) != maxArgv-9 {
		t.Errorf("the longest that is read: %d, %v", len(got), err)
	}
	long.put(0x100000, append(bytes.Repeat([]byte{'x'}, maxArgv-8), 0))
	if _, err := readArgv(long, arrayAt); !errors.Is(err, errArgvTooLong) {
		t.Errorf("one byte more: %v", err)
	}
	// 256 KiB of pointers to one short string.
	many := newMemory()
	many.put(stringAt, []byte("x\x00"))
	many.putArgv(0x100000, slices.Repeat([]uint64{stringAt}, maxArgv/10)...)
	if got, err := readArgv(many, 0x100000); err != nil || len(got) != maxArgv/10 {
		t.Errorf("as many as are read: %d, %v", len(got), err)
	}
	many.putArgv(0x100000, slices.Repeat([]uint64{stringAt}, maxArgv/10+1)...)
	if _, err := readArgv(many, 0x100000); !errors.Is(err, errArgvTooLong) {
		t.Errorf("one more: %v", err)
	}
	// And what is read for it, of a task that gives the same megabytes again and again.
	if long.asked+many.asked > 4*maxArgv {
		t.Errorf("%d pages were read", long.asked+many.asked)
	}
}

// A string that does not end costs no more than the bound.
// A reading of each argument by itself takes longer than a runtime may be held.
func TestAPageIsReadOnceForAllThatLiesThere(t *testing.T) {
	const count = 4096
	m := newMemory()
	var text []byte
	var pointers []uint64
	for range count {
		pointers = append(pointers, stringAt+uint64(len(text)))
		text = append(text, "--log\x00"...)
	}
	m.put(stringAt, text)
	m.putArgv(arrayAt, pointers...)
	if got, err := readArgv(m, arrayAt); err != nil || len(got) != count {
		t.Errorf("%d arguments, %v", len(got), err)
	}
	if limit := (len(text)+8*count)/pageSize + 4; m.asked > limit {
		t.Errorf("%d pages were read, more than %d", m.asked, limit)
	}
}

func TestAnEndlessStringIsGivenUp(t *testing.T) {
	m := newMemory()
	m.put(0x100000, bytes.Repeat([]byte{'x'}, 2*maxArgv))
	w := window{mem: m}
	if _, err := w.text(0x100000, maxArgv); !errors.Is(err, errArgvTooLong) {
		t.Errorf("%v", err)
	}
	if limit := maxArgv/pageSize + 1; m.asked > limit {
		t.Errorf("%d pages were read, more than %d", m.asked, limit)
	}
}

func FuzzReadArgv(f *testing.F) {
	f.Add([]byte("runc\x00create\x00"), uint64(arrayAt), uint8(0))
	f.Add([]byte{0, 0, 2, 0, 0, 0, 0, 0}, uint64(stringAt), uint8(3))
	f.Add(bytes.Repeat([]byte{0, 0, 1, 0, 0, 0, 0, 0}, 64), uint64(arrayAt), uint8(255))
	f.Fuzz(func(t *testing.T, content []byte, at uint64, cut uint8) {
		m := newMemory()
		m.put(at, content) // an array, and what it points to may be the array itself
		m.put(arrayAt, content)
		delete(m.pages, at/pageSize+uint64(cut))
		args, err := readArgv(m, at)
		total := 0
		for _, a := range args {
			if strings.Contains(a, "\x00") {
				t.Errorf("%q holds a NUL", a)
			}
			total += len(a) + 9
		}
		if total > maxArgv || err != nil && args != nil {
			t.Errorf("%d bytes, error %v", total, err)
		}
	})
}
