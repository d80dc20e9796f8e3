package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// boot makes of the initramfs what a container runtime takes for a node.
func boot() error {
	if err := moveRoot(); err != nil {
		return err
	}
	for _, m := range []struct{ fs, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"}, {"tmpfs", "/run"},
		{"tmpfs", "/tmp"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.fs, m.at, err)
		}
	}
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil { // runc executes /dev/fd/N
		return err
	}
	return raiseLoopback()
}

// moveRoot makes the root a mount that has a parent: pivot_root(2), which runtimes call, refuses the initramfs itself.
func moveRoot() error {
	const next = "/next"
	if err := os.MkdirAll(next, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", next, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := unix.Chdir(next); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// raiseLoopback lets 127.0.0.1 be reached: there the agent says whether it is ready.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("raise the loopback interface: %w", err)
	}
	return nil
}
