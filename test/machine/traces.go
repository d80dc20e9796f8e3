package machine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Traces are what a run of tests has left on the machine: mounts, cgroups and processes that bear the run's name, network
// namespaces and containers' state that bear the prefix of its containers' IDs.
func Traces(name, idPrefix string) []string {
	removeCgroups(name)
	var found []string
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			found = append(found, "mount "+line)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, name) {
			found = append(found, "cgroup "+path)
		}
		return nil
	})
	for _, pattern := range []string{"/run/netns/*", "/run/runc/*", "/run/crun/*"} {
		matches, _ := filepath.Glob(pattern)
		for _, match := range matches {
			if strings.Contains(match, idPrefix) {
				found = append(found, match)
			}
		}
	}
	for _, pid := range called(name) {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found = append(found, fmt.Sprintf("process %d %q", pid, command))
	}
	return found
}

// removeCgroups removes what runtimes leave of the run's own cgroup: its top in each hierarchy, and on a busy machine what
// runc gave up on, because the kernel had not yet reaped who was in it. One that is in use stays, and is found.
func removeCgroups(name string) {
	var all []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, name) {
			all = append(all, path)
		}
		return nil
	})
	for _, path := range slices.Backward(all) { // what is below comes after what is above
		_ = os.Remove(path)
	}
}
