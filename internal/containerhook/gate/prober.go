package gate

import (
	"context"
	"os"
	"runtime"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// Prober opens a group and marks files as a gate does, for events that hold nothing. Not safe for concurrent use.
type Prober struct{ group *group }

// NewProber fails where a gate would. Close closes it.
func NewProber() (*Prober, error) {
	g, err := openGroup()
	if err != nil {
		return nil, err
	}
	return &Prober{g}, nil
}

// Close takes all marks back.
func (p *Prober) Close() error { return p.group.Close() }

// Mark is Session.Mark.
func (p *Prober) Mark(_ context.Context, _ uint32, f *os.File) error {
	return p.group.mark(int(f.Fd()), unix.FAN_OPEN_EXEC)
}

// Unmark is Session.Unmark.
func (p *Prober) Unmark(uint32) {}

// Synced is Session.Synced.
func (p *Prober) Synced() {}

// CheckFilter says why a gate would have the worker look at every exec; nil where it would not.
func CheckFilter(l *task.Lookup, kernel *btf.Spec) error {
	g, err := openGroup()
	if err != nil {
		return err
	}
	defer g.Close()
	filter, err := task.OpenFilter(l, g.fd, kernel)
	if err != nil {
		return err
	}
	return filter.Close()
}

// CheckRealtime says why a gate could not run as realtime here; nil where it can.
func CheckRealtime() error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends, and its priority with it
		failed <- unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1}, 0)
	}()
	return <-failed
}
