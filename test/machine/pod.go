package machine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// HostDir is where a pod sees the host's root.
	HostDir = "/mnt/host"

	enterEnv = "CONTAINERHOOK_TEST_ENTER" // what is to run in the pod; the test's own binary prepares it
	filesEnv = "CONTAINERHOOK_TEST_FILES" // limit of open files there
)

// InPod prepares target to run, by Start, as the first process of a pod's namespaces. The test's TestMain must call Enter.
func InPod(target string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = target
	cmd.Env = append(os.Environ(), enterEnv+"="+target)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	return cmd
}

// LimitFiles has what InPod prepared find a limit of open files.
func LimitFiles(cmd *exec.Cmd, limit uint64) {
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", filesEnv, limit))
}

// Enter returns where this process is a test. One that EraseAtTheEnd started erases, and ends; one of Hang mounts. In one that InPod prepared
// it makes the namespaces it was started in those of a pod, and becomes the target: the host's root, with its procfs and
// an empty /run, is at HostDir, and /proc is that of the pod's own PID namespace.
func Enter() {
	if run, idPrefix, ok := strings.Cut(os.Getenv(eraseEnv), " "); ok {
		erase(run, idPrefix)
		os.Exit(0)
	}
	if what := os.Getenv(hangEnv); what != "" {
		if err := mountHang(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	target := os.Getenv(enterEnv)
	if target == "" {
		return
	}
	os.Unsetenv(enterEnv)
	steps := []struct {
		what string
		do   func() error
	}{
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount a place", func() error { return unix.Mount("place", "/mnt", "tmpfs", 0, "") }},
		{"make the host's place", func() error { return os.Mkdir(HostDir, 0o755) }},
		{"bind the host's root", func() error { return unix.Mount("/", HostDir, "", unix.MS_BIND|unix.MS_REC, "") }},
		// What other programs of this machine run is in the usual state directories, and is nothing of the test's.
		{"hide the machine's own containers", func() error { return unix.Mount("run", HostDir+"/run", "tmpfs", 0, "") }},
		{"mount our /proc", func() error { return unix.Mount("proc", "/proc", "proc", 0, "") }},
		{"limit open files", limitFiles},
		{"become " + target, func() error { return unix.Exec(target, os.Args, os.Environ()) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			fmt.Fprintf(os.Stderr, "enter: %s: %v\n", step.what, err)
			os.Exit(1)
		}
	}
}

func limitFiles() error {
	limit, err := strconv.ParseUint(os.Getenv(filesEnv), 10, 64)
	if err != nil {
		return nil // none is asked for
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit})
}
