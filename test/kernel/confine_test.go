package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/test/machine"
)

// hang mounts, where the agent sees dir, a FUSE file system that never answers. The returned function takes it away.
func (a *agent) hang(dir string) (release func()) {
	a.t.Helper()
	return machine.Hang(a.t, a.cmd.Process.Pid, dir)
}

// memoryGroup is a cgroup of the memory controller, v1 or v2.
type memoryGroup struct{ dir, limit string }

func newMemoryGroup(t *testing.T) *memoryGroup {
	t.Helper()
	g := &memoryGroup{dir: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes"}
	if _, err := os.Stat(g.dir); errors.Is(err, os.ErrNotExist) {
		g = &memoryGroup{dir: "/sys/fs/cgroup", limit: "memory.max"}
	}
	g.dir = filepath.Join(g.dir, testCgroup()+"-agent")
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.remove(t) })
	return g
}

// confine moves a process into the group, and lets it have so many bytes more.
func (g *memoryGroup) confine(t *testing.T, pid, bytes int) {
	t.Helper()
	for _, file := range []struct{ name, value string }{
		{g.limit, strconv.Itoa(bytes)}, {"cgroup.procs", strconv.Itoa(pid)}} {
		if err := os.WriteFile(filepath.Join(g.dir, file.name), []byte(file.value), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func (g *memoryGroup) remove(t *testing.T) {
	t.Helper()
	if err := poll(10*time.Second, func() error {
		err := unix.Rmdir(g.dir)
		if err == unix.ENOENT {
			return nil
		}
		return err
	}); err != nil {
		t.Errorf("remove %s: %v", g.dir, err)
	}
}
