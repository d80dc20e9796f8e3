package machine

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eraseEnv names the run whose traces are to be erased; the test's own binary does it.
const eraseEnv = "CONTAINERHOOK_TEST_ERASE"

// EraseOnInterrupt has SIGINT and SIGTERM end this run of tests with nothing left of it: no test cleans up then. The process
// becomes another one at once, so that no goroutine of a test goes on. The test's TestMain must call Enter.
func EraseOnInterrupt(runDir, idPrefix string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		env := append(os.Environ(), eraseEnv+"="+runDir+" "+idPrefix)
		fmt.Fprintln(os.Stderr, "FAIL: interrupted;", unix.Exec("/proc/self/exe", os.Args[:1], env))
		os.Exit(1)
	}()
}

// erase kills and removes whatever is a run's until nothing is found any more, for half a minute at most.
func erase(runDir, idPrefix string) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	name := filepath.Base(runDir)
	var left []string
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
	fmt.Fprintf(os.Stderr, "FAIL: interrupted; left behind: %q\n", left)
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
