package api

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// command is a program of the repository that runs.
type command struct {
	cmd   *exec.Cmd
	said  said
	ended chan struct{} // closed when it has
	asked bool          // a test has sent it a signal
}

var building sync.Mutex

// build makes a program of a package, once for all tests, and returns its path.
func build(t *testing.T, pkg string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	binary := filepath.Join(runDir, filepath.Base(pkg))
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	if err := machine.Build(t.Context(), map[string]string{binary: pkg}); err != nil {
		t.Fatal(err)
	}
	return binary
}

// startCommand runs a program for the time of the test, with the rights of config.
func startCommand(t *testing.T, binary string, config *rest.Config, args ...string) *command {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, config); err != nil {
		t.Fatal(err)
	}
	c := &command{ended: make(chan struct{})}
	c.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), binary, append(args, "--kubeconfig="+kubeconfig)...)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	if err := machine.Start(c.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // its state says how it ended
	}()
	t.Cleanup(func() {
		select {
		case <-c.ended:
			if !c.asked {
				t.Errorf("%s ended by itself: %v", binary, c.cmd.ProcessState)
			}
		default:
			c.end(syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", binary, c.said.String())
		}
	})
	return c
}

// end sends a signal and waits for the end.
func (c *command) end(signal os.Signal) {
	c.asked = true
	_ = c.cmd.Process.Signal(signal) // the only error is that it has ended
	<-c.ended
}

// said is what a program has said so far.
type said struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buffer.String()
}
