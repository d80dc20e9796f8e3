package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hangEnv has a test binary mount a file system that hangs, in the mount namespace of a process: "<pid>:<dir>", or take
// it away: "<pid>:<dir>:off". Descriptor 3 is /dev/fuse.
const hangEnv = "CONTAINERHOOK_TEST_HANG"

// mountHang is the main for hangEnv.
func mountHang(what string) error {
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

// Hang mounts a FUSE file system that never answers on dir in the mount namespace of a process. It takes each request,
// so that whoever waits cannot be killed either. The returned function takes it away, and whoever waits gets an error.
func Hang(t testing.TB, pid int, dir string) (release func()) {
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

// InMounts starts a process in a mount namespace of its own, whose mounts nobody else sees. It ends with the test.
func InMounts(t testing.TB) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // the mounts are made private with it
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
