package containerhook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runtimeNames are the binaries that make containers, and conmon, which knows their names. Wrappers that execute one of
// them (nvidia-container-runtime, runc-dmz …) need no entry: it is the last exec that counts.
var runtimeNames = strings.Fields("runc crun youki runsc kata-runtime docker-runc crio-runc conmon")

// runtimeDirs are where distributions keep them, as globs below the host's root.
var runtimeDirs = strings.Fields(`
	/usr/bin /usr/sbin /usr/local/bin /usr/local/sbin /bin /sbin
	/usr/libexec/podman /usr/lib/podman /usr/local/libexec/podman /usr/libexec/crio /usr/lib/crio
	/usr/lib/cri-o-runc/sbin /opt/bin /opt/containerd/bin /run/torcx/unpack/docker/bin /run/current-system/sw/bin
	/var/lib/rancher/k3s/data/*/bin /var/lib/rancher/rke2/data/*/bin /var/lib/k0s/bin
	/snap/microk8s/current/bin /snap/docker/current/bin /home/kubernetes/bin
	/x86_64-bottlerocket-linux-gnu/sys-root/usr/bin /aarch64-bottlerocket-linux-gnu/sys-root/usr/bin`)

// rescanEvery bounds how long a runtime can go unseen whose directory no watch covers.
const rescanEvery = 10 * time.Second

// executable is a marked runtime.
type executable struct {
	name string // base name
	path string // in the host's root
	file *os.File
}

// inode tells binaries apart, whatever they are called.
type inode struct{ dev, ino uint64 }

// runtimes keeps the gate's marks on the runtime binaries of the host, whatever is installed, replaced or removed.
type runtimes struct {
	host    *root
	names   []string
	dirs    []string // globs
	exact   []string
	gate    *gate
	metrics *metrics
	inotify int      // on all those directories
	changes *os.File // the same, to read from

	mu     sync.RWMutex
	marked map[inode]executable
}

// newRuntimes marks nothing yet.
func newRuntimes(host *root, o Options, g *gate, m *metrics) (*runtimes, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the directories of runtimes: %w", err)
	}
	r := &runtimes{host: host, dirs: runtimeDirs, gate: g, metrics: m, inotify: fd,
		changes: os.NewFile(uintptr(fd), "inotify"), marked: map[inode]executable{}}
	if !o.OnlyRuntimePaths {
		r.names = runtimeNames
	}
	for _, e := range o.RuntimePaths {
		if strings.Contains(e, "/") {
			r.exact = append(r.exact, path.Clean("/"+e))
		} else {
			r.names = append(slices.Clip(r.names), e)
		}
	}
	return r, nil
}

// Close ends run. It takes back no mark: those go with the gate.
func (r *runtimes) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := []error{r.changes.Close()}
	for _, b := range r.marked {
		errs = append(errs, b.file.Close())
	}
	clear(r.marked)
	return errors.Join(errs...)
}

// find says which marked binary an event's file is.
func (r *runtimes) find(i inode) (executable, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	b, ok := r.marked[i]
	return b, ok
}

// run marks again whenever a directory of runtimes changes, and every rescanEvery, until ctx ends. remarked is called
// after each change of the marks: what started in between was not held.
func (r *runtimes) run(ctx context.Context, remarked func()) error {
	stop := context.AfterFunc(ctx, func() { r.changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	names := make([]byte, 64<<10) // what changed does not matter: everything is looked at
	for ctx.Err() == nil {
		if err := r.changes.SetReadDeadline(time.Now().Add(rescanEvery)); err != nil {
			return fmt.Errorf("watch the directories of runtimes: %w", err)
		}
		_, err := r.changes.Read(names)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("watch the directories of runtimes: %w", err)
		}
		if r.scan() {
			remarked()
		}
	}
	return nil
}

// scan makes the marks equal to what is there, and says whether anything changed.
func (r *runtimes) scan() bool {
	found := map[inode]executable{}
	for _, file := range r.exact {
		r.watch(path.Dir(file))
		r.open(found, file)
	}
	for _, pattern := range r.dirs {
		dirs, _ := r.host.glob(pattern) // what cannot be read has no runtimes
		for _, dir := range dirs {
			r.watch(dir)
			for _, name := range r.names {
				r.open(found, path.Join(dir, name))
			}
		}
	}
	return r.remark(found)
}

// open adds the file at hostPath to found.
func (r *runtimes) open(found map[inode]executable, hostPath string) {
	f, err := r.host.open(hostPath)
	if err != nil {
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
	found[id] = executable{name: path.Base(hostPath), path: hostPath, file: f}
}

// remark marks what is new in found, unmarks what is not in it, and closes the files that are not kept.
func (r *runtimes) remark(found map[inode]executable) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, b := range found {
		if _, ok := r.marked[id]; ok {
			b.file.Close()
		} else if err := r.gate.mark(b.file, execPermission); err != nil {
			b.file.Close()
			r.metrics.unread("mark")
		} else {
			r.marked[id], changed = b, true
		}
	}
	for id, b := range r.marked {
		if _, ok := found[id]; !ok {
			// The file stayed open for this: the old inode has no path any more.
			if err := r.gate.unmark(b.file, execPermission); err != nil {
				r.metrics.unread("unmark")
			}
			b.file.Close()
			delete(r.marked, id)
			changed = true
		}
	}
	r.metrics.runtimes.Set(float64(len(r.marked)))
	return changed
}

// watchFor is what can put another binary behind a path: in the directory, or the directory itself.
const watchFor = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR

// watch has changes in a directory of the host reported, and in its parent, where it may be a symlink that is switched.
// One that is not there is found by the next full look.
func (r *runtimes) watch(dir string) {
	for _, d := range []string{path.Dir(dir), dir} {
		fd, err := r.host.lookup(d, unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		if _, err := unix.InotifyAddWatch(r.inotify, descriptor(fd), watchFor); err != nil {
			r.metrics.unread("watch")
		}
		unix.Close(fd)
	}
}

// count is how many runtimes are marked.
func (r *runtimes) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.marked)
}
