package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerhook/containerhook/test/machine"
)

// agent is the real one, running.
type agent struct {
	n      *node
	cmd    *exec.Cmd
	health string
	log    logBuffer
	ended  bool
}

// startAgent starts the node's agent and waits until it is ready. It ends with the test.
func (n *node) startAgent(args ...string) *agent {
	n.t.Helper()
	a := &agent{n: n, health: machine.FreeAddress(n.t)}
	a.cmd = machine.InPod(agentBinary, slices.Concat([]string{"--kubeconfig", n.kubeconfig, "--node-name", n.name,
		"--host-root", machine.HostDir, "--default-runtimes=false", "--runtime-path", n.runc, "--state-root", n.stateRoot,
		"--state-dir", n.checkpoint, "--health-bind-address", a.health, "--metrics-bind-address", "0",
		"--deadline", "1s", // what a busy machine makes late is another ring's matter
	}, args)...)
	a.cmd.Stderr = &a.log
	if err := machine.Start(a.cmd); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(a.stop)
	eventually(n.t, time.Minute, "the agent is ready", func() error { return ready(a.health) })
	return a
}

// stop ends the agent as the kubelet does, and fails where it does not end well.
func (a *agent) stop() {
	if a.ended {
		return
	}
	a.ended = true
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = a.cmd.Process.Kill() })
	defer timer.Stop()
	if err := a.cmd.Wait(); err != nil {
		a.n.t.Errorf("the agent ended with %v", err)
	}
	a.checkLog()
	if a.n.t.Failed() {
		log := a.log.bytes()
		a.n.t.Logf("the end of the log of the agent of %s:\n%s", a.n.name, log[max(0, len(log)-4000):])
	}
}

// kill ends the agent, supervisor and worker, as nothing can resist: its first process takes the pod's namespace along. It
// fails where the agent had ended before.
func (a *agent) kill() {
	a.ended = true
	_ = a.cmd.Process.Kill() // the only error is that it has ended, which shows below
	_ = a.cmd.Wait()
	if status, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		a.n.t.Errorf("the agent was not killed, it ended before: %v", a.cmd.ProcessState)
	}
	a.checkLog()
}

// checkLog fails where the worker crashed: the supervisor starts it again, and else nothing would show it.
func (a *agent) checkLog() {
	if log := a.log.bytes(); bytes.Contains(log, []byte("Worker crashed")) {
		a.n.t.Errorf("the agent of %s crashed:\n%s", a.n.name, log[max(0, len(log)-4000):])
	}
}

func ready(address string) error {
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// eventually polls until check says nothing, and returns how long that took.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		took := time.Since(began)
		switch {
		case err == nil:
			return took
		case took > limit:
			t.Fatalf("not after %v: %s: %v", limit, what, err)
		}
		<-tick.C
	}
}

// after says how long it is until then.
func after(then time.Time) error {
	if left := time.Until(then); left > 0 {
		return fmt.Errorf("%v are left", left)
	}
	return nil
}

// logBuffer is what an agent says.
type logBuffer struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.Write(p)
}

func (b *logBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.said.Bytes())
}
