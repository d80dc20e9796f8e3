package containerhook

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxListed bounds the names that are read of one directory, and the containers of one listing: ten times what a node
// should ever hold, and no burden.
const maxListed = 10_000

var errTooMany = errors.New("too many entries")

// defaultStateRoots are where runtimes keep their state when root runs them, as patterns below the host's root.
var defaultStateRoots = []string{
	"/run/containerd/runc/*",                          // containerd, by namespace; k3s, RKE2, k0s, Talos and kind too
	"/run/host-containerd/runc/*",                     // Bottlerocket's own
	"/var/snap/microk8s/common/run/containerd/runc/*", // MicroK8s, strictly confined
	"/run/docker/runtime-*/*",                         // dockerd, by --add-runtime and namespace (moby, plugins.moby)
	"/run/snap.docker/runtime-*/*",
	"/run/runc", // podman, CRI-O, and by hand
	"/run/crun",
	"/run/youki",
}

// rootlessStateRoots are those of users; a rootless containerd has its /run to itself, and is not seen here.
var rootlessStateRoots = []string{
	"/run/user/*/runc",
	"/run/user/*/crun",
	"/run/user/*/youki",
	"/run/user/*/docker/runtime-*/*",
}

// statePatterns are those of all state directories that are listed.
func (o *Options) statePatterns() []string {
	patterns := slices.Concat(defaultStateRoots, o.StateRoots)
	if o.Rootless {
		patterns = append(patterns, rootlessStateRoots...)
	}
	return patterns
}

// listed is one container that a runtime keeps state of.
type listed struct {
	id    string // passed validID
	root  string // the runtime's, free of symlinks: not as any --root says it
	state runtimeState

	config    []byte // of config.json, raw
	configErr error  // why config is nil
}

// list yields every container that the state directories below the patterns have, one in memory at a time. What
// cannot be read is yielded as an error, with root and id set where they are known, and stops nothing. What is being
// made or removed meanwhile may be missing.
func list(host *root, patterns []string, reads *reads) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		count := 0
		for dir, err := range stateRoots(host, patterns, reads) {
			var ids []string
			if err == nil {
				ids, err = within(reads, dir, func() ([]string, error) { return host.names(dir) }, nil)
			}
			if err != nil && !yield(listed{root: dir}, err) {
				return
			}
			for _, id := range ids {
				c, err := within(reads, path.Join(dir, id), func() (listed, error) { return readListed(host, dir, id) }, nil)
				c.root, c.id = cmp.Or(c.root, dir), cmp.Or(c.id, knownID(id))
				if isAbsent(err) {
					continue
				}
				if count++; count > maxListed {
					yield(listed{}, fmt.Errorf("list containers: %w", errTooMany))
					return
				}
				if !yield(c, err) {
					return
				}
			}
		}
	}
}

// stateRoots yields every directory that a pattern matches, once, under the name that is free of symlinks.
func stateRoots(host *root, patterns []string, reads *reads) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := map[string]bool{}
		for _, pattern := range patterns {
			matches, err := within(reads, pattern, func() ([]string, error) { return host.glob(pattern) }, nil)
			if err != nil && !yield(pattern, err) {
				return
			}
			for _, match := range matches {
				dir, err := within(reads, match, func() (string, error) { return host.realDir(match) }, nil)
				if isAbsent(err) || seen[dir] {
					continue
				}
				if err != nil {
					dir = match
				}
				seen[dir] = true
				if !yield(dir, err) {
					return
				}
			}
		}
	}
}

// knownID is id where it can be a container's.
func knownID(id string) string {
	if validID(id) {
		return id
	}
	return ""
}

func readListed(host *root, dir, id string) (c listed, err error) {
	c.root = dir
	if !validID(id) {
		return c, pathError("list", dir, fmt.Errorf("%w: %.80q", errBadID, id))
	}
	c.id = id
	name := path.Join(dir, id)
	own, err := host.sub(name)
	if err != nil {
		return c, err
	}
	defer own.Close()
	if c.state, err = stateIn(own); err != nil {
		return c, pathError("read the state in", name, err)
	}
	c.configErr = fs.ErrNotExist
	if c.state.runtime == "crun" { // keeps a copy, of what --config named too
		c.config, c.configErr = own.read("config.json", maxConfig)
	}
	if isAbsent(c.configErr) && path.IsAbs(c.state.bundle) {
		c.config, c.configErr = host.readOwned(path.Join(c.state.bundle, "config.json"), maxConfig, c.state.uid)
	}
	return c, nil
}

// glob returns the paths that match a pattern of path.Match; one without a wildcard may name what does not exist.
func (r *root) glob(pattern string) (matches []string, err error) {
	if _, err = path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("match %q: %w", pattern, err)
	}
	matches = []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, dir := range matches {
			if !strings.ContainsAny(part, `*?[\`) {
				next = append(next, path.Join(dir, part))
				continue
			}
			names, unread := r.names(dir)
			if !isAbsent(unread) {
				err = errors.Join(err, unread)
			}
			for _, name := range names {
				if ok, _ := path.Match(part, name); ok {
					next = append(next, path.Join(dir, name))
				}
			}
		}
		matches = next
	}
	return matches, err
}

// names returns what is in a directory, sorted: with errTooMany, a part of it.
func (r *root) names(dir string) ([]string, error) {
	f, err := r.openDir(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxListed + 1)
	switch {
	case errors.Is(err, io.EOF):
		err = nil
	case len(names) > maxListed:
		names, err = names[:maxListed], pathError("list", dir, errTooMany)
	}
	slices.Sort(names)
	return names, err
}

// isAbsent says whether err is that there is nothing, or no directory, of that name.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
