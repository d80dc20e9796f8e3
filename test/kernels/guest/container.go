package main

import (
	"bytes"
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

	"github.com/containerhook/containerhook/api/v1alpha1"
)

const (
	runc      = "/usr/sbin/runc"
	crun      = "/usr/bin/crun"
	stateRoot = "/run/state"
	rootfs    = "/rootfs" // holds the probe, as /probe
	marked    = "/marked" // the same one, for the agent a runtime
)

// container is one that a check makes, with all that its runtime says of it.
type container struct {
	runtime, id, bundle string

	code   int                 // as run returned it, or as was asked for
	signal int                 // that ends it, or 0
	oom    bool                // something in it is OOM-killed
	reason v1alpha1.StopReason // empty is Completed or Error, by the code
	userns bool                // it has a user namespace of its own

	pid        int                           // as the runtime wrote it down
	cgroup     int64                         // 0 where it was gone before anybody could look
	namespaces *v1alpha1.ContainerNamespaces // nil where it was
}

// limitMemory gives a container so little memory that "eat" is OOM-killed.
func limitMemory(s *specs.Spec) {
	limit := int64(32 << 20)
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
}

// ownUsers gives a container a user namespace of its own.
func ownUsers(s *specs.Spec) {
	mapping := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = mapping, mapping
}

// newContainer makes a bundle in which the probe runs with args. It is edited where edit is not nil.
func newContainer(runtime, id string, edit func(*specs.Spec), args ...string) (*container, error) {
	c := &container{runtime: runtime, id: id, bundle: filepath.Join("/tmp/bundles", id)}
	if err := os.MkdirAll(c.bundle, 0o755); err != nil {
		return nil, err
	}
	if out, err := run(runc, "spec", "--bundle", c.bundle); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	config := filepath.Join(c.bundle, "config.json")
	raw, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	var s specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("parse %s: %w", config, err)
	}
	s.Root = &specs.Root{Path: rootfs, Readonly: true}
	s.Process.Terminal, s.Process.Args = false, append([]string{"/probe"}, args...)
	s.Linux.CgroupsPath = "/guest/" + id
	if edit != nil {
		edit(&s)
	}
	if raw, err = json.Marshal(&s); err != nil {
		return nil, err
	}
	return c, os.WriteFile(config, raw, 0o644)
}

// run runs c to its end; global are options of the runtime before its command.
func (c *container) run(global ...string) error {
	out, err := c.do(append(global, "run", "--bundle", c.bundle, "--pid-file", c.pidFile(), c.id)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		c.code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	c.pid, err = c.writtenPID()
	if err != nil {
		return fmt.Errorf("%w; the runtime said %q", err, out)
	}
	return nil
}

// create leaves c waiting for start.
func (c *container) create() error {
	if out, err := c.do("create", "--bundle", c.bundle, "--pid-file", c.pidFile(), c.id); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var err error
	if c.pid, err = c.writtenPID(); err != nil {
		return err
	}
	if c.cgroup, err = inode("/sys/fs/cgroup/guest/" + c.id); err != nil {
		return err
	}
	c.namespaces, err = namespaces(c.pid)
	return err
}

// namespaces are those of a process, as the API has them: without the initial user namespace.
func namespaces(pid int) (*v1alpha1.ContainerNamespaces, error) {
	const initialUser = 0xEFFFFFFD // PROC_USER_INIT_INO of include/linux/proc_ns.h

	var n v1alpha1.ContainerNamespaces
	for name, number := range map[string]*int64{"cgroup": &n.Cgroup, "ipc": &n.IPC, "mnt": &n.Mount, "net": &n.Network,
		"pid": &n.PID, "user": &n.User, "uts": &n.UTS} {
		var err error
		if *number, err = inode(fmt.Sprintf("/proc/%d/ns/%s", pid, name)); err != nil {
			return nil, err
		}
	}

	if n.User == initialUser {
		n.User = 0
	}
	return &n, nil
}

func inode(path string) (int64, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return int64(s.Ino), nil
}

func (c *container) start() error  { return c.must("start", c.id) }
func (c *container) delete() error { return c.must("delete", "--force", c.id) }

func (c *container) must(args ...string) error {
	if out, err := c.do(args...); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c *container) do(args ...string) (string, error) {
	return run(c.runtime, append([]string{"--root", stateRoot}, args...)...)
}

func (c *container) pidFile() string { return filepath.Join(c.bundle, "pid") }

func (c *container) writtenPID() (int, error) {
	raw, err := os.ReadFile(c.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// run runs a command, and returns what it says. That goes to a file: a container that outlives its runtime would keep a
// pipe open.
func run(name string, args ...string) (string, error) {
	out, err := os.CreateTemp("", "said-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err = cmd.Start(); err == nil {
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait()
		kill.Stop()
	}
	if err != nil {
		err = fmt.Errorf("%s … %s: %w", filepath.Base(name), args[len(args)-1], err)
	}
	said, readErr := os.ReadFile(out.Name())
	return string(bytes.TrimSpace(said)), errors.Join(err, readErr)
}
