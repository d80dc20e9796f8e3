// Package hosttest makes hosts for tests: directories with what a node has in them.
package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// MakeTree makes files, and the directories they need. "-> x" is a symlink to x, "|" a FIFO, "/" a directory.
func MakeTree(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, content := range tree {
		name = filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		target, isLink := strings.CutPrefix(content, "-> ")
		switch {
		case err != nil:
		case content == "/":
			err = os.MkdirAll(name, 0o755)
		case content == "|":
			err = unix.Mkfifo(name, 0o600)
		case isLink:
			err = os.Symlink(target, name)
		default:
			err = os.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Open opens something for as long as the test runs, as a root by its directory.
func Open[T interface{ Close() }](t *testing.T, open func(string) (T, error), name string) T {
	t.Helper()
	o, err := open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// NeedRoot skips a test that only root can pass.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
