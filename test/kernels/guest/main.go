// Command guest runs in a virtual machine that boots an older or newer kernel, as its first process: it mounts what a
// node has, runs the agent with real runtimes, and compares every object that is told with what the runtime says. It
// prints a line for each check, a last one that counts them, and powers the machine off. See ../run.sh.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// What this program is in, as its only argument; none is the first process.
const (
	asChecks = "checks"
	asPod    = "pod"     // followed by what becomes of it
	asHook   = "handler" // followed by the directory of its files
)

func main() {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == asChecks:
		err = check()
	case len(os.Args) > 2 && os.Args[1] == asPod:
		err = enter(os.Args[2:])
	case len(os.Args) > 2 && os.Args[1] == asHook:
		err = runHandler(os.Args[2])
	case os.Getpid() == 1:
		if err = boot(); err == nil {
			err = runChecks()
		}
		if err != nil {
			fmt.Println("guest:", err)
		}
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	default:
		err = errors.New("to be run as the first process of a virtual machine: see test/kernels/run.sh")
	}
	if err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
}

// runChecks runs the checks in another process, and reaps everything that is left to this one, as the first process of
// a node does: a container's init outlives the runtime that made it.
func runChecks() error {
	checks := exec.Command("/proc/self/exe", asChecks)
	checks.Stdout, checks.Stderr = os.Stdout, os.Stderr
	checks.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	if err := checks.Start(); err != nil {
		return fmt.Errorf("start the checks: %w", err)
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if pid == checks.Process.Pid {
			return nil
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("wait for the checks: %w", err)
		}
	}
}
