package machine

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eraseEnv names the run whose traces are to be erased when it has ended; the test's own binary does it.
const eraseEnv = "CONTAINERHOOK_TEST_ERASE"

// EraseAtTheEnd starts a process that removes what is left of this run of tests when it has ended, however: at an interrupt,
// a panic, a time limit or a SIGKILL no test cleans up. The test's TestMain must call Enter.
func EraseAtTheEnd(runDir, idPrefix string) error {
	pipe := make([]int, 2) // nobody closes its other end but the kernel, when this process is no more
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	ended := os.NewFile(uintptr(pipe[0]), "pipe")
	defer ended.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), eraseEnv+"="+runDir+" "+idPrefix)
	cmd.Stdin, cmd.Stderr = ended, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // no interrupt reaches it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start what erases: %w", err)
	}
	return nil
}

// erase waits until a run has ended, and then kills and removes whatever is its own until nothing is found any more, for
// half a minute at most.
func erase(runDir, idPrefix string) {
	_, _ = io.Copy(io.Discard, os.Stdin)
	name := filepath.Base(runDir)
	left := Traces(name, idPrefix)
	if _, err := os.Stat(runDir); len(left) == 0 && os.IsNotExist(err) {
		return
	}
	for range 300 {
		for _, pid := range append(inCgroups(name), called(name)...) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for _, point := range mounted(name) {
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
		_ = os.RemoveAll(runDir)
		for _, pattern := range []string{"/run/netns/*", "/run/runc/*", "/run/crun/*"} {
			matches, _ := filepath.Glob(pattern)
			for _, match := range matches {
				if strings.Contains(match, idPrefix) {
					_, _ = unix.Unmount(match, unix.MNT_DETACH), os.RemoveAll(match)
				}
			}
		}
		if left = Traces(name, idPrefix); len(left) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond) // the kernel has to end and reap them
	}
	fmt.Fprintf(os.Stderr, "FAIL: the tests ended before they had cleaned up; left behind: %q\n", left)
}

// inCgroups are the pids in the cgroups of a run.
func inCgroups(name string) (pids []int) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" || !strings.Contains(path, name) {
			return nil
		}
		procs, _ := os.ReadFile(path)
		for word := range strings.FieldsSeq(string(procs)) {
			if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// called are the pids of processes with a run's name in their command lines.
func called(name string) (pids []int) {
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range commands {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if command, _ := os.ReadFile(file); err == nil && pid != os.Getpid() && bytes.Contains(command, []byte(name)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mounted are the mount points that bear a run's name, in the order in which they can be unmounted.
func mounted(name string) (points []string) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.Contains(fields[4], name) {
			points = append([]string{fields[4]}, points...)
		}
	}
	return points
}
