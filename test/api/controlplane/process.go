package controlplane

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerhook/containerhook/test/machine"
)

// process is a component that runs. It is ended by SIGKILL: nobody needs what it would tidy up.
type process struct {
	cmd  *exec.Cmd
	log  string        // path of what it says
	done chan struct{} // closed when it has ended
}

// start starts a component, which dies with this process.
func start(dir, binary string, args ...string) (*process, error) {
	path, err := find(binary)
	if err != nil {
		return nil, err
	}
	p := &process{
		cmd:  exec.Command(path, args...),
		log:  filepath.Join(dir, binary+".log"),
		done: make(chan struct{}),
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	err = machine.Start(p.cmd)
	log.Close() // it has its own
	if err != nil {
		return nil, fmt.Errorf("start %q: %w", path, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it was killed, or its log says why it ended
	}()
	return p, nil
}

// stop ends the process and waits for its end. A process that was never started, or has ended, is stopped.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // the only error is that it has ended
	<-p.done
}

// tail returns the end of what the process says.
func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-2000):])
}

// find returns the path of a component: in KUBEBUILDER_ASSETS, or among what `make kubernetes` has built.
func find(binary string) (string, error) {
	dir := os.Getenv("KUBEBUILDER_ASSETS")
	if dir == "" {
		dir = repository(".cache/kubernetes/current")
	}
	path := filepath.Join(dir, binary)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w; `make kubernetes` builds it, or KUBEBUILDER_ASSETS names its folder", binary, err)
	}
	return path, nil
}
