package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	hostDir = "/mnt/host"
	// hideBTF asks enter for a kernel without type information.
	hideBTF = "GUEST_HIDE_BTF=1"
)

// inPod prepares argv to run as the first process of a pod's PID and mount namespaces.
func inPod(argv ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{asPod}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// enter makes the namespaces that inPod has prepared those of a pod: the host's root, with its procfs, is at hostDir,
// and /proc is that of the pod's own PID namespace. Then it becomes argv.
func enter(argv []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(hostDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", hostDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind the host's root: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount the pod's /proc: %w", err)
	}
	for _, variable := range os.Environ() {
		if variable != hideBTF {
			continue
		}
		if err := unix.Mount("nothing", "/sys/kernel/btf", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("hide the kernel's BTF: %w", err)
		}
	}
	return unix.Exec(argv[0], argv, os.Environ())
}
