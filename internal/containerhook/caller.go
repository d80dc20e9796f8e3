package containerhook

import (
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
)

// caller is the file system as a held task sees it: its root, which may be a chroot in another mount namespace, and its
// working directory. It must be opened while the task is held. Not safe for use after Close, else as root.
type caller struct {
	root *hostfs.Root
	cwd  int // O_PATH; negative where it could not be opened, and then cwdErr says why
	uid  uint32

	cwdErr error
}

// openCaller opens the file system that the task tid sees. tid is of the PID namespace that hostProc was mounted for,
// and the thread's, not the process's: a thread may have a working directory of its own, and outlive the first one. uid
// is its effective one in the initial user namespace. Both directories stay what they were when the task goes on.
func openCaller(hostProc string, tid int, uid uint32) (*caller, error) {
	proc := hostProc + "/" + strconv.Itoa(tid)
	root, err := hostfs.Open(proc + "/root")
	if err != nil {
		return nil, err
	}
	c := &caller{root: root, uid: uid}
	link := proc + "/cwd"
	if c.cwd, err = unix.Open(link, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		c.cwd, c.cwdErr = -1, &os.PathError{Op: "open", Path: link, Err: err}
	}
	return c, nil
}

func (c *caller) Close() {
	c.root.Close()
	if c.cwd >= 0 {
		hostfs.CloseFD(c.cwd)
	}
}

// abs makes a path that the caller gave absolute in its root, and changes nothing else: in a/../b a may be a symlink.
func (c *caller) abs(name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	if c.cwdErr != nil {
		return "", hostfs.PathError("resolve", name, c.cwdErr)
	}
	cwd, err := c.root.PathOf(c.cwd)
	if err != nil {
		return "", hostfs.PathError("resolve", name, err)
	}
	return cwd + "/" + name, nil
}

// dir makes a directory that the caller gave absolute and, where it exists, free of symlinks: a bundle as the runtimes
// record it, a runtime's root by its one name (docker says /var/run where the kernel says /run).
func (c *caller) dir(name string) (string, error) {
	name, err := c.abs(name)
	if err != nil {
		return "", err
	}
	located, err := c.root.RealDir(name)
	if err != nil {
		return path.Clean(name), err
	}
	return located, nil
}

// openConfig opens the config.json of what a create, run or restore is about to make. The bundle is absolute in the
// caller's root; it is returned with an error too, unless the error is that of finding it.
func (c *caller) openConfig(cmd oci.Command) (config *os.File, bundle string, err error) {
	bundle, err = c.dir(cmd.Bundle)
	if err != nil {
		return nil, bundle, err
	}
	name := bundle + "/config.json"
	if cmd.Config != "" { // relative to the cwd, not to the bundle: crun resolves it first
		if name, err = c.abs(cmd.Config); err != nil {
			return nil, bundle, err
		}
	}
	config, err = c.root.Open(name)
	return config, bundle, err
}
