package runtimes

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMountsThatCannotBeReadMayHaveChanged(t *testing.T) {
	m := openMounts(t.TempDir())
	for range 2 { // each time, not the first time only
		if !m.changed() {
			t.Error("nothing may have changed")
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// A shell in a mount namespace of its own, where anybody can mount, stands in for the host's process 1.
func TestMountsTellOfEachChangeOnce(t *testing.T) {
	shell := exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c", `echo begun; while read -r line; do $line; echo done; done`)
	commands, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		commands.Close()
		_ = shell.Wait()
	})
	said := bufio.NewScanner(stdout)
	if !said.Scan() {
		if os.Geteuid() == 0 {
			t.Fatal("root can make no namespaces")
		}
		t.Skip("SKIP: no user namespaces for this user on this machine: nothing can be mounted")
	}
	proc := t.TempDir()
	if err := os.Symlink(fmt.Sprintf("/proc/%d", shell.Process.Pid), filepath.Join(proc, "1")); err != nil {
		t.Fatal(err)
	}
	m := openMounts(proc)
	defer m.Close()
	for _, step := range []struct {
		command string
		changes bool
	}{{"true", false}, {"mount -t tmpfs tmpfs /tmp", true}, {"true", false}, {"umount /tmp", true}, {"true", false}} {
		fmt.Fprintln(commands, step.command)
		if !said.Scan() {
			t.Fatalf("%s: %v", step.command, said.Err())
		}
		if got := m.changed(); got != step.changes {
			t.Errorf("%s: changed %v", step.command, got)
		}
	}
}
