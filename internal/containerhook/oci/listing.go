package oci

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

// maxListed bounds the containers of one listing: ten times what a node should ever hold, and no burden.
const maxListed = 10_000

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

// StatePatterns are those of all state directories that are listed: the usual ones and more.
func StatePatterns(more []string, rootless bool) []string {
	patterns := slices.Concat(defaultStateRoots, more)
	if rootless {
		patterns = append(patterns, rootlessStateRoots...)
	}
	return patterns
}

// Listed is one container that a runtime keeps state of.
type Listed struct {
	ID    string // passed validID
	Root  string // the runtime's, free of symlinks: not as any --root says it
	State State

	Config    []byte // of config.json, raw
	ConfigErr error  // why config is nil
}

// List yields every container that the state directories below the patterns have, one in memory at a time. What
// cannot be read is yielded as an error, with root and id set where they are known, and stops nothing. What is being
// made or removed meanwhile may be missing.
func List(host *hostfs.Root, patterns []string, reads *hostfs.Reads) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		count := 0
		for dir, err := range StateRoots(host, patterns, reads) {
			var ids []string
			if err == nil {
				ids, err = hostfs.Within(reads, dir, func() ([]string, error) { return host.Names(dir) }, nil)
			}
			if err != nil && !yield(Listed{Root: dir}, err) {
				return
			}
			for _, id := range ids {
				c, err := hostfs.Within(reads, path.Join(dir, id), func() (Listed, error) { return ReadListed(host, dir, id) }, nil)
				c.Root, c.ID = cmp.Or(c.Root, dir), cmp.Or(c.ID, knownID(id))
				if hostfs.IsAbsent(err) {
					continue
				}
				if count++; count > maxListed {
					yield(Listed{}, fmt.Errorf("list containers: %w", hostfs.ErrTooMany))
					return
				}
				if !yield(c, err) {
					return
				}
			}
		}
	}
}

// StateRoots yields every directory that a pattern matches, once, under the name that is free of symlinks.
func StateRoots(host *hostfs.Root, patterns []string, reads *hostfs.Reads) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := map[string]bool{}
		for _, pattern := range patterns {
			matches, err := hostfs.Within(reads, pattern, func() ([]string, error) { return host.Glob(pattern) }, nil)
			if err != nil && !yield(pattern, err) {
				return
			}
			for _, match := range matches {
				dir, err := hostfs.Within(reads, match, func() (string, error) { return host.RealDir(match) }, nil)
				if hostfs.IsAbsent(err) || seen[dir] {
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

// ReadListed reads all that is kept of the container id in the state directory dir. Its error leaves root and id set.
func ReadListed(host *hostfs.Root, dir, id string) (c Listed, err error) {
	c.Root = dir
	if !validID(id) {
		return c, hostfs.PathError("list", dir, fmt.Errorf("%w: %.80q", ErrBadID, id))
	}
	c.ID = id
	name := path.Join(dir, id)
	own, err := host.Sub(name)
	if err != nil {
		return c, err
	}
	defer own.Close()
	if c.State, err = stateIn(own); err != nil {
		return c, hostfs.PathError("read the state in", name, err)
	}
	c.ConfigErr = fs.ErrNotExist
	if c.State.Runtime == "crun" { // keeps a copy, of what --config named too
		c.Config, c.ConfigErr = own.Read("config.json", MaxConfig)
	}
	if hostfs.IsAbsent(c.ConfigErr) && path.IsAbs(c.State.Bundle) {
		c.Config, c.ConfigErr = host.ReadOwned(path.Join(c.State.Bundle, "config.json"), MaxConfig, c.State.UID)
	}
	return c, nil
}
