package runtimes

import (
	"bytes"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
)

const (
	// maxCmdline bounds what is read of a process's arguments: those of a conmon have 1 to 4 KB.
	maxCmdline = 64 << 10
	// maxUsed bounds the runtimes that are taken over from running processes. A node has one or two.
	maxUsed = 64
)

// Monitors yields what the processes of the host say that stay with a container and run its runtime: of a conmon its
// whole command, and its own binary as one more runtime; of a containerd shim the runtime alone. Only the host's own are
// asked, for anybody can call himself conmon. Runtimes are as they are named: paths, or base names.
func Monitors(host *hostfs.Root, hostProc string) iter.Seq[oci.Command] {
	return func(yield func(oci.Command) bool) {
		proc, err := os.Open(hostProc)
		if err != nil {
			return
		}
		defer proc.Close()
		entries, _ := proc.Readdirnames(-1) // what cannot be read names nothing
		for _, entry := range entries {
			if _, err := strconv.Atoi(entry); err != nil {
				continue
			}
			dir := path.Join(hostProc, entry)
			comm, _ := os.ReadFile(path.Join(dir, "comm"))
			conmon, isShim := oci.IsConmon(strings.TrimSpace(string(comm))), bytes.HasPrefix(comm, []byte("containerd-shim")) // cut to 15
			if !conmon && !isShim {
				continue
			}
			exe, own := hostsOwn(host, dir)
			switch {
			case !own:
			case isShim && !yield(shimCommand(dir)):
				return
			case conmon && !(yield(conmonCommand(dir)) && yield(oci.Command{Runtime: exe})):
				return
			}
		}
	}
}

// hostsOwn says whether the process of a directory in the host's procfs is root's (in our own user namespace, which is
// the initial one), in the host's PID namespace and no deeper, and of a binary that is in the host's root: exe.
func hostsOwn(host *hostfs.Root, dir string) (exe string, own bool) {
	status, _ := os.ReadFile(path.Join(dir, "status"))
	byRoot, atTop := false, false
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Uid:"): // real, effective, saved, file system
			byRoot = len(fields) == 5 && fields[1] == "0" && fields[2] == "0"
		case strings.HasPrefix(line, "NSpid:"):
			atTop = len(fields) == 2
		}
	}
	exe, err := os.Readlink(path.Join(dir, "exe"))
	if !byRoot || !atTop || err != nil {
		return "", false
	}
	named, err := host.Lookup(exe, 0)
	if err != nil {
		return "", false
	}
	defer hostfs.CloseFD(named)
	running, err := unix.Open(path.Join(dir, "exe"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer hostfs.CloseFD(running)
	same, err := hostfs.SameInode(named, running)
	return exe, same && err == nil
}

// conmonCommand is the command line of a conmon; nothing where it cannot be read.
func conmonCommand(dir string) oci.Command {
	f, err := os.Open(path.Join(dir, "cmdline"))
	if err != nil {
		return oci.Command{}
	}
	defer f.Close()
	cmdline := make([]byte, maxCmdline)
	n, _ := f.Read(cmdline)
	argv := strings.Split(strings.TrimSuffix(string(cmdline[:max(n, 0)]), "\x00"), "\x00")
	c, _ := oci.ParseCommand("conmon", argv)
	return c
}

// shimCommand reads what a shim keeps in its bundle, which is its working directory: in the file runtime the option
// BinaryName, empty for the default (containerd, cmd/containerd-shim-runc-v2/runc/container.go, WriteRuntime).
func shimCommand(dir string) oci.Command {
	bundle, err := hostfs.Open(path.Join(dir, "cwd"))
	if err != nil {
		return oci.Command{}
	}
	defer bundle.Close()
	name, _ := bundle.Read("runtime", unix.PathMax)
	return oci.Command{Runtime: string(name)}
}

// usedRuntimes is what the node's monitors say that they make containers with: base names, and absolute paths as those
// processes see them.
func usedRuntimes(host *hostfs.Root, hostProc string) (used []string) {
	for c := range Monitors(host, hostProc) {
		plain := path.IsAbs(c.Runtime) || c.Runtime != "" && !strings.Contains(c.Runtime, "/")
		if plain && !slices.Contains(used, c.Runtime) && len(used) < maxUsed {
			used = append(used, c.Runtime)
		}
	}
	return used
}
