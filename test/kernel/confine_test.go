package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hangEnv has this test binary mount a file system that hangs, in the mount namespace of a process: "<pid>:<dir>", or take
// it away: "<pid>:<dir>:off". Descriptor 3 is /dev/fuse.
const hangEnv = "CONTAINERHOOK_TEST_HANG"

// runHang is the main for hangEnv.
func runHang(what string) error {
	words := strings.Split(what, ":")
	runtime.LockOSThread()
	namespace, err := unix.Open("/proc/"+words[0]+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The kernel wants a root directory that no other thread shares.
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(namespace, unix.CLONE_NEWNS)); err != nil {
		return err
	}
	if len(words) > 2 {
		return unix.Unmount(words[1], unix.MNT_DETACH)
	}
	return unix.Mount("hang", words[1], "fuse", 0, "fd=3,rootmode=40000,user_id=0,group_id=0")
}

// hang mounts, where the agent sees dir, a FUSE file system that never answers. The returned function takes it away.
func (a *agent) hang(dir string) (release func()) {
	a.t.Helper()
	return hang(a.t, a.cmd.Process.Pid, dir)
}

// hang mounts a FUSE file system that never answers on dir in the mount namespace of a process. It takes each request,
// so that whoever waits cannot be killed either. The returned function takes it away, and whoever waits gets an error.
func hang(t *testing.T, pid int, dir string) (release func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	device := os.NewFile(uintptr(fd), "fuse")
	do := func(what string) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), hangEnv+"="+what)
		cmd.ExtraFiles = []*os.File{device}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	where := fmt.Sprintf("%d:%s", pid, dir)
	do(where)

	var over atomic.Bool
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		for request := make([]byte, 64<<10); !over.Load(); {
			ready, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50) // what fails, the read says
			if ready <= 0 {
				continue
			}
			if _, err := unix.Read(fd, request); err != nil {
				t.Errorf("read requests: %v", err)
				return
			}
			if operation := binary.NativeEndian.Uint32(request[4:]); operation != 26 { // FUSE_INIT
				continue
			}
			// struct fuse_out_header and fuse_init_out (linux/fuse.h), of version 7.31.
			answer := make([]byte, 16+64)
			binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
			copy(answer[8:16], request[8:16]) // which request it is for
			binary.NativeEndian.PutUint32(answer[16:], 7)
			binary.NativeEndian.PutUint32(answer[20:], 31)
			if _, err := unix.Write(fd, answer); err != nil {
				t.Errorf("answer the first request: %v", err)
			}
		}
	}()
	return sync.OnceFunc(func() {
		do(where + ":off")
		over.Store(true)
		<-taken
		device.Close() // whoever waits gets an error
	})
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
