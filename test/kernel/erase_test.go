package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/test/machine"
)

// endEnv says how a run of tests is to end that the test's own binary plays.
const endEnv = "CONTAINERHOOK_TEST_END"

// TestWhateverEndsARunOfTestsNothingOfItIsLeft plays runs that end before they have cleaned up, and one that has.
func TestWhateverEndsARunOfTestsNothingOfItIsLeft(t *testing.T) {
	t.Parallel()
	for how, erased := range map[string]bool{"cleaned up": false, "exit": true, "panic": true, "interrupt": true, "kill": true} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), endEnv+"="+how)
			out, err := cmd.CombinedOutput() // what erases has its end, too
			dir, _, found := strings.Cut(string(out), "\n")
			if name := filepath.Base(dir); !found || !strings.HasPrefix(name, "containerhook-end-") {
				t.Fatalf("it made nothing: %v: %s", err, out)
			} else if left := machine.Traces(name, name); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("its directory is left: %v", err)
			}
			if strings.Contains(string(out), "left behind: []") != erased {
				t.Errorf("it said %s", out)
			}
		})
	}
}

// runUntil makes what tests make, in a directory that it prints, and ends.
func runUntil(how string) {
	dir, err := os.MkdirTemp("", "containerhook-end-")
	fmt.Println(dir)
	name := filepath.Base(dir)
	if err := errors.Join(err, machine.EraseAtTheEnd(dir, name)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if how == "cleaned up" {
		_ = os.Remove(dir)
		os.Exit(0)
	}
	cgroup := filepath.Join("/sys/fs/cgroup", name)
	if _, err := os.Stat("/sys/fs/cgroup/pids"); err == nil {
		cgroup = filepath.Join("/sys/fs/cgroup/pids", name)
	}
	process := exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && echo ready && sleep 1000`, cgroup)
	says, err := process.StdoutPipe()
	if err := errors.Join(err, unix.Mount(name, dir, "tmpfs", 0, ""), os.Mkdir(cgroup, 0o755), process.Start()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _ = says.Read(make([]byte, 8))
	switch how {
	case "panic":
		panic("as a time limit does")
	case "interrupt":
		_ = unix.Kill(os.Getpid(), unix.SIGINT)
	case "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "exit":
		os.Exit(1)
	}
	_, _ = unix.Poll(nil, -1) // the signal comes
}
