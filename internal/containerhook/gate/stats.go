package gate

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldBuckets are the upper bounds of the histograms, in ns; what is longer is in one more.
var HoldBuckets = [...]time.Duration{50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond,
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}

// Stats are the gate's figures, in memory that the gate writes and each worker reads: they go on over a worker's
// restart, and are right while there is none. All are counts since the gate began, but for the times.
type Stats struct {
	Answered     [Results]atomic.Uint64 // by result
	AnswerErrors atomic.Uint64          // nobody waited any more
	Overflows    atomic.Uint64          // the kernel had no room for events
	Restarts     atomic.Uint64          // workers started after the first
	Missed       atomic.Uint64          // containers that were found later, of all workers; the worker writes it
	Hold         Histogram              // from reading a permission event to its answer
	Heartbeat    Histogram              // of the gate's own permission events, from when they were due to their return
	LastBeat     atomic.Int64           // when the gate last answered one, ns since 1970; 0 before
}

// Histogram counts durations. Its writer is one goroutine; readers may be anywhere.
type Histogram struct {
	Buckets [len(HoldBuckets) + 1]atomic.Uint64 // not cumulative
	Sum     atomic.Uint64                       // ns
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(HoldBuckets) && d > HoldBuckets[i] {
		i++
	}
	h.Buckets[i].Add(1)
	h.Sum.Add(uint64(max(d, 0)))
}

// newStats makes the memory; the file goes to the workers.
func newStats() (*Stats, *os.File, error) {
	fd, err := unix.MemfdCreate("stats", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make the memory of the statistics: %w", err)
	}
	file := os.NewFile(uintptr(fd), "stats")
	if err := file.Truncate(int64(unsafe.Sizeof(Stats{}))); err != nil {
		return nil, nil, fmt.Errorf("size the memory of the statistics: %w", err)
	}
	stats, err := mapStats(file)
	return stats, file, err
}

// mapStats maps what newStats made; it stays mapped for the life of the process.
func mapStats(file *os.File) (*Stats, error) {
	memory, err := unix.Mmap(int(file.Fd()), 0, int(unsafe.Sizeof(Stats{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the statistics: %w", err)
	}
	return (*Stats)(unsafe.Pointer(unsafe.SliceData(memory))), nil
}
