package runtimes

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

// fakeGate refuses marks while refuse is set.
type fakeGate struct {
	refuse error
	marked int
}

func (g *fakeGate) Mark(context.Context, uint32, *os.File) error {
	if g.refuse == nil {
		g.marked++
	}
	return g.refuse
}
func (g *fakeGate) Unmark(uint32) { g.marked-- }
func (g *fakeGate) Synced()       {}

// TestARuntimeThatCannotBeMarkedIsSaidWithItsReason: by the status and once by the log, until it can.
func TestARuntimeThatCannotBeMarkedIsSaidWithItsReason(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "usr/bin/runc")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	host, err := hostfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	gate := &fakeGate{refuse: unix.EACCES}
	r, err := New(Options{Host: host, HostProc: dir + "/proc", Reads: hostfs.NewReads(), Gate: gate, Failed: func(string) {}, Marked: func(int) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var logged []string
	ctx := logr.NewContext(t.Context(), funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))

	r.Scan(ctx)
	if len(r.Unheld()) > 0 || len(logged) != 1 || !strings.Contains(logged[0], "No runtime found") {
		t.Errorf("without a runtime: %v; logged %v", r.Unheld(), logged)
	}

	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Scan(ctx)
	r.Scan(ctx)
	if diff := cmp.Diff([]string{"/usr/bin/runc: mark it: permission denied"}, r.Unheld()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(logged) != 2 || !strings.Contains(logged[1], "/usr/bin/runc") || !strings.Contains(logged[1], "permission denied") {
		t.Errorf("logged %v", logged)
	}
	if len(r.Paths()) > 0 {
		t.Errorf("held: %v", r.Paths())
	}

	gate.refuse = nil
	r.Scan(ctx)
	if len(r.Unheld()) > 0 || gate.marked != 1 || len(r.Paths()) != 1 {
		t.Errorf("once it can be marked: %v, %d marks, %v", r.Unheld(), gate.marked, r.Paths())
	}
}
