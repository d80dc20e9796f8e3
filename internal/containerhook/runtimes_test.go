package containerhook

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
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
	host, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	gate, reads := &fakeGate{refuse: unix.EACCES}, newReads()
	r, err := newRuntimes(host, Options{HostRoot: dir}, gate, newMetrics(prometheus.NewRegistry(), reads), reads)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var logged []string
	ctx := logr.NewContext(t.Context(), funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))

	r.scan(ctx)
	if len(r.unheld()) > 0 || len(logged) != 1 || !strings.Contains(logged[0], "No runtime found") {
		t.Errorf("without a runtime: %v; logged %v", r.unheld(), logged)
	}

	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	r.scan(ctx)
	r.scan(ctx)
	if diff := cmp.Diff([]string{"/usr/bin/runc: mark it: permission denied"}, r.unheld()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(logged) != 2 || !strings.Contains(logged[1], "/usr/bin/runc") || !strings.Contains(logged[1], "permission denied") {
		t.Errorf("logged %v", logged)
	}
	if len(r.paths()) > 0 {
		t.Errorf("held: %v", r.paths())
	}

	gate.refuse = nil
	r.scan(ctx)
	if len(r.unheld()) > 0 || gate.marked != 1 || len(r.paths()) != 1 {
		t.Errorf("once it can be marked: %v, %d marks, %v", r.unheld(), gate.marked, r.paths())
	}
}
