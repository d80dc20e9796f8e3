package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// variant is who holds the execs of a binary. Each has copies of its own.
type variant string

const (
	free  variant = "nobody"
	floor variant = "empty responder"
	ours  variant = "agent"
	// earlier is another build of the agent.
	earlier variant = "agent-before"
)

// place is where everything happens. What is made, there and elsewhere on the machine, bears its name.
type place struct {
	ctx  context.Context
	dir  string
	said *os.File // standard error of all that is run
}

func (p *place) name() string { return filepath.Base(p.dir) }
func (p *place) bin(v variant, program string) string {
	return filepath.Join(p.dir, string(v), program)
}

// marked are the copies that one variant marks.
func (p *place) marked(v variant) []string {
	return []string{p.bin(v, "tiny"), p.bin(v, "runc"), p.bin(v, "crun")}
}

// furnish builds and copies what is to be executed.
func (p *place) furnish() (err error) {
	if p.dir, err = os.MkdirTemp("", "containerhook-bench-"); err != nil {
		return err
	}
	if p.said, err = os.Create(p.dir + "/stderr"); err != nil {
		return err
	}
	for _, program := range []string{"responder", "spawn", "tiny"} {
		if err := p.run("gcc", "-O2", "-Wall", "-static", "-o", p.dir+"/"+program, "test/bench/c/"+program+".c"); err != nil {
			return err
		}
	}
	for _, program := range []string{p.dir + "/tiny", "runc", "crun"} {
		found, err := exec.LookPath(program)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(found)
		for _, v := range []variant{free, floor, ours, earlier, "rootfs"} {
			to := p.bin(v, filepath.Base(program))
			err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o755))
		}
		if err != nil {
			return err
		}
	}
	return p.run("runc", "spec", "--bundle", p.dir)
}

// bundle makes a bundle whose container runs tiny with args, in a cgroup of its own.
func (p *place) bundle(name string, args ...string) (dir string, err error) {
	raw, err := os.ReadFile(p.dir + "/config.json")
	if err != nil {
		return "", err
	}
	var s specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	s.Root.Path, s.Linux.CgroupsPath = p.dir+"/rootfs", "/"+p.name()+"/"+name
	s.Process.Terminal, s.Process.Args = false, append([]string{"/tiny"}, args...)
	if raw, err = json.Marshal(&s); err != nil {
		return "", err
	}
	dir = filepath.Join(p.dir, "bundles", name)
	return dir, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/config.json", raw, 0o644))
}

// runtime is the command line of a runtime, with a state directory of ours.
func (p *place) runtime(v variant, name string, args ...string) []string {
	return append([]string{p.bin(v, name), "--root", p.dir + "/state/" + name}, args...)
}

// inside goes before the command line of a runtime that refuses cgroup v1 and v2 together (crun 1.8): it gets a mount
// namespace without v2.
func inside(runtime string) []string {
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err != nil || runtime != "crun" {
		return nil
	}
	return []string{"unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified && exec "$0" "$@"`}
}

// command prepares a program that gets no signal of the terminal's, and does not outlive us.
func (p *place) command(argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.ctx, argv[0], argv[1:]...)
	cmd.Stderr = p.said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (p *place) run(argv ...string) error {
	cmd := p.command(argv...)
	return p.explain(cmd, cmd.Run())
}

// explain adds what a program said to the error that it ended with.
func (p *place) explain(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	said, _ := os.ReadFile(p.said.Name())
	return fmt.Errorf("run %s: %w\n%s", cmd, err, said[max(0, len(said)-1000):])
}

func (p *place) wait(d time.Duration) error {
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// startFloor starts the empty responder.
func (p *place) startFloor() (pids []int, stop func(), err error) {
	return p.start(3, append([]string{p.dir + "/responder"}, p.marked(floor)...)...)
}

// startAgent starts an agent: the pids are the gate's and the worker's.
func (p *place) startAgent(v variant) (pids []int, stop func(), err error) {
	path := *agentPath
	if v == earlier {
		path = *beforePath
	}
	return p.start(4, path, "--standalone", "-o", "json", "--default-runtimes=false", "--health-bind-address", "0",
		"--metrics-bind-address", "0", "--state-root", p.dir+"/state/*", "--runtime-path", strings.Join(p.marked(v), ","))
}

// start starts a program and waits until it, or its child, has marked so many files.
func (p *place) start(marks int, argv ...string) (pids []int, stop func(), err error) {
	cmd := p.command(argv...)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() { _, _ = cmd.Process.Signal(syscall.SIGTERM), cmd.Wait() }
	for range 200 {
		pids = family(cmd.Process.Pid)
		if marksOf(pids) == marks { // the heartbeat's is one
			return pids, stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, nil, p.explain(cmd, errors.New("it has not marked its files"))
}

// family is a process and its children.
func family(pid int) []int {
	pids := []int{pid}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, thread := range threads {
		children, _ := os.ReadFile(thread)
		for child := range strings.FieldsSeq(string(children)) {
			n, _ := strconv.Atoi(child)
			pids = append(pids, n)
		}
	}
	return pids
}

func marksOf(pids []int) (n int) {
	for _, pid := range pids {
		infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
		for _, file := range infos {
			info, _ := os.ReadFile(file)
			n += bytes.Count(info, []byte("fanotify ino:"))
		}
	}
	return n
}

// removeContainers removes what is left of all containers.
func (p *place) removeContainers() error {
	for _, group := range p.cgroups("/*/cgroup.procs") {
		pids, _ := os.ReadFile(group)
		for pid := range strings.FieldsSeq(string(pids)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
	var errs []error
	states, _ := filepath.Glob(p.dir + "/state/*/*")
	for _, state := range states {
		runtime, id := filepath.Base(filepath.Dir(state)), filepath.Base(state)
		errs = append(errs, p.run(append(inside(runtime), p.runtime(free, runtime, "delete", "--force", id)...)...))
	}
	return errors.Join(errs...)
}

// Close removes all that is left. What was started must have been stopped.
func (p *place) Close() error {
	p.ctx = context.WithoutCancel(p.ctx)
	errs := []error{p.removeContainers()}
	for _, top := range p.cgroups("") {
		errs = append(errs, os.Remove(top))
	}
	return errors.Join(append(errs, p.said.Close(), os.RemoveAll(p.dir))...)
}

// cgroups are ours in every hierarchy, or what is below them.
func (p *place) cgroups(below string) (paths []string) {
	for _, hierarchy := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		some, _ := filepath.Glob(hierarchy + p.name() + below)
		paths = append(paths, some...)
	}
	return paths
}
