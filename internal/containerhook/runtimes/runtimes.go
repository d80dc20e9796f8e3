// Package runtimes knows which binaries of the host make containers, and keeps the gate's marks on them: whatever is
// installed, replaced, mounted over or removed.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
)

// runtimeNames are the binaries that make containers, and conmon, which knows their names. Wrappers that execute one of
// them (nvidia-container-runtime, runc-dmz …) need no entry: it is the last exec that counts.
// Engines bring some under names of their own.
var runtimeNames = strings.Fields(`runc docker-runc crio-runc buildkit-runc sysbox-runc crun crio-crun krun youki runsc
	kata-runtime conmon crio-conmon`)

// runtimeDirs are where distributions keep them, as globs below the host's root.
var runtimeDirs = strings.Fields(`
	/usr/bin /usr/sbin /usr/local/bin /usr/local/sbin /bin /sbin
	/usr/libexec/podman /usr/lib/podman /usr/local/libexec/podman /usr/libexec/crio /usr/lib/crio
	/usr/lib/cri-o-runc/sbin /opt/bin /opt/containerd/bin /run/torcx/unpack/docker/bin /run/current-system/sw/bin
	/var/lib/rancher/k3s/data/*/bin /var/lib/rancher/rke2/data/*/bin /var/lib/k0s/bin
	/snap/microk8s/current/bin /snap/docker/current/bin /home/kubernetes/bin /home/containerd/usr/local/sbin
	/x86_64-bottlerocket-linux-gnu/sys-root/usr/bin /aarch64-bottlerocket-linux-gnu/sys-root/usr/bin`)

const (
	// lookEvery bounds how long a runtime can go unseen that is behind a new mount.
	lookEvery = 10 * time.Second
	// lookBlind bounds how long any runtime can go unseen where nothing can be watched.
	lookBlind = time.Second
	// discoverEvery is the time between two looks at all processes for what they use, and at whatever nothing announces, as a
	// change that was made through the network. A shim with another runtime than all before it is rare, and its first
	// container has begun when it can be seen.
	discoverEvery = time.Minute
)

// Executable is a marked runtime.
type Executable struct {
	Name  string // base name
	Path  string // in the host's root
	token uint32 // what the gate calls it
}

// inode identifies a binary, whatever they are called.
type inode struct{ dev, ino uint64 }

// Set keeps the gate's marks on the runtime binaries of the host, whatever is installed, replaced or removed.
type Set struct {
	o      Options
	dirs   []string // globs
	wanted []string // paths in the host's root, or base names to be found in dirs
	used   []string // the same, of running processes
	blind  bool     // nothing can be watched
	watch  *watch
	mounts mounts
	tokens uint32
	synced bool // the gate has dropped the marks of workers before this one

	mu      sync.RWMutex
	marked  map[inode]Executable // guarded by mu
	refused map[string]error     // why a runtime is not marked, by its path; guarded by mu
}

// Marker is the gate, which has the marks.
type Marker interface {
	Mark(ctx context.Context, token uint32, f *os.File) error
	Unmark(token uint32)
	Synced()
}

// candidate is a file that is to be marked.
type candidate struct {
	Executable
	file *os.File
}

// Options are what runtimes need to know; none has a default.
type Options struct {
	Host     *hostfs.Root
	HostProc string // the host's procfs
	Reads    *hostfs.Reads
	Paths    []string // marked besides the usual ones: paths in the host's root, or base names
	Only     bool     // the usual ones are not
	Gate     Marker
	Failed   func(what string) // counts what could not be done
	Marked   func(count int)   // hears how many are marked
}

// New marks nothing yet.
func New(o Options) (*Set, error) {
	r := &Set{o: o, dirs: runtimeDirs, wanted: o.Paths, marked: map[inode]Executable{}}
	if !o.Only {
		r.wanted = append(slices.Clip(r.wanted), runtimeNames...)
	}
	var err error
	if r.watch, err = newWatch(o.Host, o.Reads); err != nil {
		r.blind = true
		o.Failed("watch")
	}
	if r.watch == nil {
		return nil, err
	}
	r.mounts = openMounts(r.o.HostProc)
	return r, nil
}

// Close ends run. It takes back no mark: those go with the gate.
func (r *Set) Close() error {
	return errors.Join(r.watch.Close(), r.mounts.Close())
}

// Find says which marked binary the gate calls token.
func (r *Set) Find(token uint32) (Executable, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, b := range r.marked {
		if b.token == token {
			return b, true
		}
	}
	return Executable{}, false
}

// Run marks again whenever something changes on the way to a runtime, and every so often, until ctx ends. remarked is
// called after each change of the marks: what started in between was not held.
func (r *Set) Run(ctx context.Context, remarked func()) error {
	stop := context.AfterFunc(ctx, func() { r.watch.Close() })
	defer stop()
	every := lookEvery
	if r.blind {
		every = lookBlind
	}
	discovered := time.Now()
	for {
		changed, err := r.watch.wait(every)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		due := time.Since(discovered) > discoverEvery
		if due {
			discovered = time.Now()
			r.Discover()
		}
		if (r.mounts.changed() || changed || due || r.blind) && r.Scan(ctx) {
			remarked()
		}
	}
}

// Discover learns what the running monitors use, where all runtimes are wanted.
func (r *Set) Discover() {
	if !r.o.Only {
		used, err := hostfs.Within(r.o.Reads, r.o.HostProc, func() ([]string, error) { return usedRuntimes(r.o.Host, r.o.HostProc), nil }, nil)
		if err == nil {
			r.used = used
		}
	}
}

// Scan makes the marks equal to what is there, and says whether anything changed.
func (r *Set) Scan(ctx context.Context) bool {
	found, refused := map[inode]candidate{}, map[string]error{}
	r.watch.begin()
	var names []string
	for _, e := range slices.Concat(r.wanted, r.used) {
		if strings.Contains(e, "/") {
			r.open(found, refused, path.Clean("/"+e))
		} else {
			names = append(names, e)
		}
	}
	for _, pattern := range r.dirs {
		r.watch.add(pattern)
		dirs, _ := hostfs.Within(r.o.Reads, pattern, func() ([]string, error) { return r.o.Host.Glob(pattern) }, nil) // what cannot be read has no runtimes
		for _, dir := range dirs {
			for _, name := range names {
				r.open(found, refused, path.Join(dir, name))
			}
		}
	}
	changed := r.remark(ctx, found, refused)
	r.report(ctx, refused)
	return changed
}

// report logs what is news about runtimes that are not marked, and keeps it for the status.
func (r *Set) report(ctx context.Context, refused map[string]error) {
	r.mu.Lock()
	before, none := r.refused, len(r.marked) == 0
	r.refused = refused
	r.mu.Unlock()

	log := logr.FromContextOrDiscard(ctx)
	for name, err := range refused {
		if old := before[name]; old == nil || old.Error() != err.Error() {
			log.Error(err, "Not holding a runtime: its containers are found by listing", "path", name)
		}
	}
	if none && before == nil {
		log.Info("No runtime found: containers are found by listing")
	}
}

// open adds the file at hostPath to found, or why it cannot be marked to refused, and has the way to it watched.
func (r *Set) open(found map[inode]candidate, refused map[string]error, hostPath string) {
	r.watch.add(hostPath)
	f, err := hostfs.Within(r.o.Reads, hostPath, func() (*os.File, error) { return r.o.Host.OpenAnswering(hostPath) }, closeFile)
	if errors.Is(err, hostfs.ErrUnanswering) || errors.Is(err, hostfs.ErrHangs) || errors.Is(err, hostfs.ErrManyHanging) {
		r.o.Failed("mark")
		refused[hostPath] = err
	}
	if err != nil { // mostly there is no such file
		return
	}
	var st unix.Stat_t
	id := inode{}
	if err = unix.Fstat(int(f.Fd()), &st); err == nil {
		id = inode{uint64(st.Dev), st.Ino}
	}
	if _, twice := found[id]; twice || err != nil {
		f.Close()
		return
	}
	found[id] = candidate{Executable{Name: path.Base(hostPath), Path: hostPath}, f}
}

func closeFile(f *os.File) { f.Close() }

// remark marks what is new in found, unmarks what is not in it, and closes the files. The gate answers without a lock of
// ours: who inspects a held exec is not kept by it.
func (r *Set) remark(ctx context.Context, found map[inode]candidate, refused map[string]error) (changed bool) {
	r.mu.RLock()
	next := maps.Clone(r.marked)
	r.mu.RUnlock()

	for id, b := range found {
		if before, ok := next[id]; ok {
			b.token = before.token
			next[id] = b.Executable // it may have another name by now
			b.file.Close()
			continue
		}
		r.tokens++
		b.token = r.tokens
		r.publish(id, b.Executable) // before the first event can name it
		err := r.o.Gate.Mark(ctx, b.token, b.file)
		b.file.Close()
		if err != nil {
			r.o.Failed("mark")
			refused[b.Path] = fmt.Errorf("mark it: %w", err)
			continue
		}
		next[id], changed = b.Executable, true
	}
	for id, b := range next {
		if _, ok := found[id]; !ok {
			r.o.Gate.Unmark(b.token)
			delete(next, id)
			changed = true
		}
	}
	if !r.synced {
		r.synced = true
		r.o.Gate.Synced()
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.marked = next
	r.o.Marked(len(next))
	return changed
}

func (r *Set) publish(id inode, b Executable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marked[id] = b
}

// PathOf is the path of the one marked runtime with that base name; empty where there are more, or none.
func (r *Set) PathOf(name string) (found string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, b := range r.marked {
		switch {
		case b.Name != name:
		case found != "":
			return ""
		default:
			found = b.Path
		}
	}
	return found
}

// Unheld says why runtimes that were found are not marked, sorted.
func (r *Set) Unheld() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []string
	for name, err := range r.refused {
		all = append(all, fmt.Sprintf("%s: %v", name, err))
	}
	slices.Sort(all)
	return all
}

// Paths are those of the marked runtimes, sorted.
func (r *Set) Paths() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []string
	for _, b := range r.marked {
		all = append(all, b.Path)
	}
	slices.Sort(all)
	return all
}
