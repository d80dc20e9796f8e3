package machine

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Copy makes to, and the directories above it, an executable copy of from.
func Copy(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	// A process that another goroutine forks meanwhile has the file open for writing until it executes something, and so
	// long nobody can execute the file (ETXTBSY, golang/go#22315): nothing is forked while it is written.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("copy %q: %w", from, err)
	}
	return out.Close()
}

// WriteScript makes name an executable script.
func WriteScript(name, text string) error {
	syscall.ForkLock.RLock() // as in Copy
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}

// CopyInstalled makes to a private copy of an installed binary: the machine's own is never marked.
func CopyInstalled(name, to string) error {
	installed, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	return Copy(installed, to)
}

var runcSpec = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "containerhook-spec-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("runc", "spec", "--bundle", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("runc spec: %w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "config.json"))
})

// Spec returns what `runc spec` makes.
func Spec() (*specs.Spec, error) {
	raw, err := runcSpec()
	if err != nil {
		return nil, err
	}
	var s specs.Spec
	return &s, json.Unmarshal(raw, &s)
}

// WriteSpec writes the config.json of a bundle.
func WriteSpec(bundle string, s *specs.Spec) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), raw, 0o644)
}

// FreeAddress is an address on loopback at which nobody listens now.
func FreeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
