package containerhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	// maxConfig bounds config.json. Those of Kubernetes have 10 to 50 KB; environments and mounts can make them grow.
	maxConfig = 4 << 20
	// maxValues bounds how many values a config.json may list. 4 MiB of "{}," as mounts would be 170 MB in memory.
	maxValues = 100_000
)

var errNotJSON = errors.New("not valid JSON")

// caller is the file system as a held task sees it: its root, which may be a chroot in another mount namespace, and its
// working directory. It must be opened while the task is held. Not safe for use after Close, else as root.
type caller struct {
	root *root
	cwd  int // O_PATH; negative where it could not be opened, and then cwdErr says why
	uid  uint32

	cwdErr error
}

// openCaller opens the file system that the task tid sees. tid is of the PID namespace that hostProc was mounted for,
// and the thread's, not the process's: a thread may have a working directory of its own, and outlive the first one. uid
// is its effective one in the initial user namespace. Both directories stay what they were when the task goes on.
func openCaller(hostProc string, tid int, uid uint32) (*caller, error) {
	proc := hostProc + "/" + strconv.Itoa(tid)
	root, err := openRoot(proc + "/root")
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
		closeFD(c.cwd)
	}
}

// abs makes a path that the caller gave absolute in its root, and changes nothing else: in a/../b a may be a symlink.
func (c *caller) abs(name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	if c.cwdErr != nil {
		return "", pathError("resolve", name, c.cwdErr)
	}
	cwd, err := c.root.pathOf(c.cwd)
	if err != nil {
		return "", pathError("resolve", name, err)
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
	located, err := c.root.realDir(name)
	if err != nil {
		return path.Clean(name), err
	}
	return located, nil
}

// openConfig opens the config.json of what a create, run or restore is about to make. The bundle is absolute in the
// caller's root; it is returned with an error too, unless the error is that of finding it.
func (c *caller) openConfig(cmd command) (config *os.File, bundle string, err error) {
	bundle, err = c.dir(cmd.bundle)
	if err != nil {
		return nil, bundle, err
	}
	name := bundle + "/config.json"
	if cmd.config != "" { // relative to the cwd, not to the bundle: crun resolves it first
		if name, err = c.abs(cmd.config); err != nil {
			return nil, bundle, err
		}
	}
	config, err = c.root.open(name)
	return config, bundle, err
}

// parseConfig reads a config.json as that runtime does: one JSON value, unknown names ignored. Where a value is not of the type
// that the runtime-spec wants, the rest of spec is there with the error. No error quotes the content.
func parseConfig(raw []byte, runtime string) (*specs.Spec, error) {
	if len(raw) > maxConfig || countValues(raw) > maxValues {
		return nil, fmt.Errorf("parse config.json: %w", errTooLarge)
	}
	spec, d := new(specs.Spec), dialectOf(runtime)
	err := d.decode(raw, spec) // its depth is bounded: 10,000
	if err != nil {
		err = fmt.Errorf("parse config.json: %w", jsonError(err))
	}
	if errors.Is(err, errNotJSON) || errors.Is(err, errNamesTwice) {
		return nil, err
	}
	d.apply(spec)
	return spec, err
}

// countValues is how many values JSON lists, as its commas say. Those in strings list nothing: a pod's author may write as
// many as he likes into an environment variable or an annotation.
func countValues(raw []byte) (n int) {
	for inString, i := false, 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case c == ',' && !inString:
			n++
		}
	}
	return n
}

// jsonError is encoding/json's error less what it quotes of the input.
func jsonError(err error) error {
	var (
		syntax    *json.SyntaxError
		otherType *json.UnmarshalTypeError
	)
	switch {
	case errors.Is(err, errNotJSON), errors.Is(err, errNamesTwice), errors.Is(err, errOtherType):
		return err
	case errors.As(err, &syntax):
		return fmt.Errorf("%w at byte %d", errNotJSON, syntax.Offset)
	case errors.As(err, &otherType):
		return fmt.Errorf("value of an unexpected type at byte %d", otherType.Offset)
	default: // it ends too early
		return errNotJSON
	}
}
