// Package hostfs reads files of file systems that nobody trusts, and that may never answer: Root keeps every path inside one
// directory, Reads has nobody wait for a call that hangs.
package hostfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Why something is not read.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrTooLarge   = errors.New("too large")
	ErrForeign    = errors.New("not owned by the caller, who is not root")
	ErrOutside    = errors.New("outside of the caller's root, or deleted")
	ErrTooMany    = errors.New("too many entries")
)

// maxNamed bounds the names that are read of one directory: ten times what a node should ever hold, and no burden.
const maxNamed = 10_000

// Root is a file system that nobody trusts, from one directory down: the host's, or a caller's. Symlinks in it,
// absolute ones and .. too, end in it; magic links of a procfs (/proc/<pid>/root) lead nowhere. Relative paths begin at
// its top. Every call takes as long as the file system does, which may be forever (FUSE): the caller keeps the
// deadline. Safe for concurrent use, but for Close.
type Root struct {
	fd int // O_PATH
}

// Open opens a directory whose own path is trusted, as from a flag.
func Open(path string) (*Root, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %q: %w", path, err)
	}
	return &Root{fd}, nil
}

// Close closes the directory. Nothing else may be called after it.
func (r *Root) Close() { CloseFD(r.fd) }

// Sub opens a directory in the root as a root of its own, which its symlinks do not leave either.
func (r *Root) Sub(path string) (*Root, error) {
	fd, err := r.Lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Root{fd}, nil
}

// Owner returns the user ID that the root's own directory belongs to.
func (r *Root) Owner() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(r.fd, &stat); err != nil {
		return 0, fmt.Errorf("stat root: %w", err)
	}
	return stat.Uid, nil
}

// Lookup opens path without opening what it names (O_PATH): no driver is called, no reader of a FIFO appears.
func (r *Root) Lookup(path string, flags uint64) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	// The kernel gives up with EAGAIN where anything on the machine was renamed or mounted while it went through a ..:
	// likely to pass once, but an attacker can keep it up.
	for range 32 {
		if fd, err = unix.Openat2(r.fd, path, &how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return -1, PathError("open", path, err)
	}
	return fd, nil
}

// Open opens a regular file for reading, its name quoted; anything else is ErrNotRegular, and is not opened. The type
// is seen on the O_PATH descriptor, and the same inode is then opened through it, whatever path names by now: looking
// the path up again and comparing inodes would come after the damage, for the opening of a device or a FIFO is an act.
func (r *Root) Open(path string) (*os.File, error) {
	found, err := r.Lookup(path, 0)
	if err != nil {
		return nil, err
	}
	defer CloseFD(found)
	var stat unix.Stat_t
	if err := unix.Fstat(found, &stat); err != nil {
		return nil, PathError("stat", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, PathError("open", path, ErrNotRegular)
	}
	return reopen(found, path)
}

// unansweringFileSystems are those whose answers come from another process or machine, and so may never come: a file there
// is not marked, for each event and each mark asks its file system in the gate (fs/notify/fanotify/fanotify_user.c,
// create_fd and fanotify_find_path).
var unansweringFileSystems = []int64{unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC,
	unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC,
	unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC}

// ErrUnanswering is OpenAnswering's.
var ErrUnanswering = errors.New("on a file system that may never answer (FUSE, NFS, …)")

// OpenAnswering is open for files on file systems that always answer.
func (r *Root) OpenAnswering(path string) (*os.File, error) {
	f, err := r.Open(path)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err = unix.Fstatfs(int(f.Fd()), &fs); err == nil && slices.Contains(unansweringFileSystems, int64(fs.Type)) {
		err = ErrUnanswering
	}
	if err != nil {
		f.Close()
		return nil, PathError("open", path, err)
	}
	return f, nil
}

// openDir opens a directory to list it.
func (r *Root) openDir(path string) (*os.File, error) {
	found, err := r.Lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer CloseFD(found)
	return reopen(found, path)
}

// reopen opens what an O_PATH descriptor refers to for reading. path is for messages.
func reopen(found int, path string) (*os.File, error) {
	// O_NONBLOCK: a file's owner may hold a lease on it, which blocks an open for 45 s.
	fd, err := unix.Open(Descriptor(found), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, PathError("open", path, err)
	}
	// Its work is done, and os.File would take it for a wish to be polled.
	if err = unix.SetNonblock(fd, false); err != nil {
		CloseFD(fd)
		return nil, PathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("%.300q", path)), nil
}

// Read returns a regular file's content, of limit bytes at most.
func (r *Root) Read(path string, limit int64) ([]byte, error) { return r.ReadOwned(path, limit, 0) }

// ReadOwned is read for a path that the user uid chose. We can read more than most: root may have us read everything,
// others what is theirs, so that no symlink of theirs leads to a secret.
func (r *Root) ReadOwned(path string, limit int64, uid uint32) ([]byte, error) {
	f, err := r.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadOwnedFile(f, limit, uid)
}

// ReadOwnedFile is readOwned of a file that open has opened.
func ReadOwnedFile(f *os.File, limit int64, uid uint32) ([]byte, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	switch {
	case uid != 0 && stat.Uid != uid:
		return nil, fmt.Errorf("read %s: %w", f.Name(), ErrForeign)
	case stat.Size > limit:
		return nil, fmt.Errorf("read %s: %w", f.Name(), ErrTooLarge)
	}
	// What the file holds by its own account is read. So the kernel's files, which call themselves regular and empty,
	// are not touched: reading kmsg or trace_pipe takes from others, and may block.
	content := make([]byte, stat.Size)
	n, err := io.ReadFull(f, content)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return content[:n], nil
}

// RealDir returns the path of a directory inside the root, free of symlinks: what the kernel, and so a runtime, calls
// it. Two names of one directory give the same.
func (r *Root) RealDir(path string) (string, error) {
	fd, err := r.Lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer CloseFD(fd)
	located, err := r.nameOf(fd)
	if err == nil && located != path { // where it is the same it has just been tried
		err = r.try(located, fd)
	}
	if err != nil {
		return "", PathError("locate", path, err)
	}
	return located, nil
}

// PathOf returns the path inside the root of an open directory, which leads there.
func (r *Root) PathOf(dir int) (string, error) {
	path, err := r.nameOf(dir)
	if err == nil {
		err = r.try(path, dir)
	}
	if err != nil {
		return "", err
	}
	return path, nil
}

// nameOf is what the kernel calls an open directory, less what it calls the root. It names directories as seen from our
// own root, or from the top of a mount namespace that we are not in; either way both begin alike. It is not believed but
// tried: a directory that was deleted, covered by a mount, or lies outside has no path here.
func (r *Root) nameOf(dir int) (string, error) {
	top, err := os.Readlink(Descriptor(r.fd))
	if err != nil {
		return "", err
	}
	path, err := os.Readlink(Descriptor(dir))
	if err != nil {
		return "", err
	}
	path, inside := strings.CutPrefix(path, strings.TrimSuffix(top, "/"))
	if path == "" {
		path = "/"
	}
	if !inside || path[0] != '/' {
		return "", ErrOutside
	}
	return path, nil
}

// try fails with ErrOutside where path does not lead to dir.
func (r *Root) try(path string, dir int) error {
	again, err := r.Lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutside, err)
	}
	defer CloseFD(again)
	same, err := SameInode(dir, again)
	if err != nil {
		return err
	}
	if !same {
		return ErrOutside
	}
	return nil
}

// SameInode says whether two open descriptors are of one file.
func SameInode(a, b int) (bool, error) {
	var one, other unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &one), unix.Fstat(b, &other)); err != nil {
		return false, err
	}
	return one.Dev == other.Dev && one.Ino == other.Ino, nil
}

// Glob returns the paths that match a pattern of path.Match; one without a wildcard may name what does not exist.
func (r *Root) Glob(pattern string) (matches []string, err error) {
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
			names, unread := r.Names(dir)
			if !IsAbsent(unread) {
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

// Names returns what is in a directory, sorted: with ErrTooMany, a part of it.
func (r *Root) Names(dir string) ([]string, error) {
	f, err := r.openDir(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxNamed + 1)
	switch {
	case errors.Is(err, io.EOF):
		err = nil
	case len(names) > maxNamed:
		names, err = names[:maxNamed], PathError("list", dir, ErrTooMany)
	}
	slices.Sort(names)
	return names, err
}

// IsAbsent says whether err is that there is nothing, or no directory, of that name.
func IsAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// Readlink returns what a symlink says; an error for anything else.
func (r *Root) Readlink(name string) (string, error) {
	fd, err := r.Lookup(name, unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer CloseFD(fd)
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return "", PathError("read the link", name, err)
	}
	return string(target[:n]), nil
}

// PathError says what failed with a path of somebody else's, who may have made it long and put line breaks in it.
func PathError(verb, path string, err error) error {
	return fmt.Errorf("%s %.300q: %w", verb, path, err)
}

// CloseFD closes a descriptor that nothing was written to: there is nothing left that could fail.
func CloseFD(fd int) { _ = unix.Close(fd) }

// Descriptor is the magic link of one of our own descriptors.
func Descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
