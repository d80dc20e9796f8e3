package containerhook

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	errNotRegular = errors.New("not a regular file")
	errTooLarge   = errors.New("too large")
	errForeign    = errors.New("not owned by the caller, who is not root")
	errOutside    = errors.New("outside of the caller's root, or deleted")
)

// root is a file system that nobody trusts, from one directory down: the host's, or a caller's. Symlinks in it,
// absolute ones and .. too, end in it; magic links of a procfs (/proc/<pid>/root) lead nowhere. Relative paths begin at
// its top. Every call takes as long as the file system does, which may be forever (FUSE): the caller keeps the
// deadline. Safe for concurrent use, but for Close.
type root struct {
	fd int // O_PATH
}

// openRoot opens a directory whose own path is trusted, as from a flag.
func openRoot(path string) (*root, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %q: %w", path, err)
	}
	return &root{fd}, nil
}

func (r *root) Close() { closeFD(r.fd) }

// sub opens a directory in the root as a root of its own, which its symlinks do not leave either.
func (r *root) sub(path string) (*root, error) {
	fd, err := r.lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &root{fd}, nil
}

// owner returns the user ID that the root's own directory belongs to.
func (r *root) owner() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(r.fd, &stat); err != nil {
		return 0, fmt.Errorf("stat root: %w", err)
	}
	return stat.Uid, nil
}

// lookup opens path without opening what it names (O_PATH): no driver is called, no reader of a FIFO appears.
func (r *root) lookup(path string, flags uint64) (fd int, err error) {
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
		return -1, pathError("open", path, err)
	}
	return fd, nil
}

// open opens a regular file for reading, its name quoted; anything else is errNotRegular, and is not opened. The type
// is seen on the O_PATH descriptor, and the same inode is then opened through it, whatever path names by now: looking
// the path up again and comparing inodes would come after the damage, for the opening of a device or a FIFO is an act.
func (r *root) open(path string) (*os.File, error) {
	found, err := r.lookup(path, 0)
	if err != nil {
		return nil, err
	}
	defer closeFD(found)
	var stat unix.Stat_t
	if err := unix.Fstat(found, &stat); err != nil {
		return nil, pathError("stat", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, pathError("open", path, errNotRegular)
	}
	return reopen(found, path)
}

// unansweringFileSystems are those whose answers come from another process or machine, and so may never come: a file there
// is not marked, for each event and each mark asks its file system in the gate (fs/notify/fanotify/fanotify_user.c,
// create_fd and fanotify_find_path).
var unansweringFileSystems = []int64{unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC,
	unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC,
	unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC}

var errUnanswering = errors.New("on a file system that may never answer (FUSE, NFS, …)")

// openAnswering is open for files on file systems that always answer.
func (r *root) openAnswering(path string) (*os.File, error) {
	f, err := r.open(path)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err = unix.Fstatfs(int(f.Fd()), &fs); err == nil && slices.Contains(unansweringFileSystems, int64(fs.Type)) {
		err = errUnanswering
	}
	if err != nil {
		f.Close()
		return nil, pathError("open", path, err)
	}
	return f, nil
}

// openDir opens a directory to list it.
func (r *root) openDir(path string) (*os.File, error) {
	found, err := r.lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer closeFD(found)
	return reopen(found, path)
}

// reopen opens what an O_PATH descriptor refers to for reading. path is for messages.
func reopen(found int, path string) (*os.File, error) {
	// O_NONBLOCK: a file's owner may hold a lease on it, which blocks an open for 45 s.
	fd, err := unix.Open(descriptor(found), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	// Its work is done, and os.File would take it for a wish to be polled.
	if err = unix.SetNonblock(fd, false); err != nil {
		closeFD(fd)
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("%.300q", path)), nil
}

// read returns a regular file's content, of limit bytes at most.
func (r *root) read(path string, limit int64) ([]byte, error) { return r.readOwned(path, limit, 0) }

// readOwned is read for a path that the user uid chose. We can read more than most: root may have us read everything,
// others what is theirs, so that no symlink of theirs leads to a secret.
func (r *root) readOwned(path string, limit int64, uid uint32) ([]byte, error) {
	f, err := r.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readOwnedFile(f, limit, uid)
}

// readOwnedFile is readOwned of a file that open has opened.
func readOwnedFile(f *os.File, limit int64, uid uint32) ([]byte, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	switch {
	case uid != 0 && stat.Uid != uid:
		return nil, fmt.Errorf("read %s: %w", f.Name(), errForeign)
	case stat.Size > limit:
		return nil, fmt.Errorf("read %s: %w", f.Name(), errTooLarge)
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

// realDir returns the path of a directory inside the root, free of symlinks: what the kernel, and so a runtime, calls
// it. Two names of one directory give the same.
func (r *root) realDir(path string) (string, error) {
	fd, err := r.lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer closeFD(fd)
	located, err := r.nameOf(fd)
	if err == nil && located != path { // where it is the same it has just been tried
		err = r.try(located, fd)
	}
	if err != nil {
		return "", pathError("locate", path, err)
	}
	return located, nil
}

// pathOf returns the path inside the root of an open directory, which leads there.
func (r *root) pathOf(dir int) (string, error) {
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
func (r *root) nameOf(dir int) (string, error) {
	top, err := os.Readlink(descriptor(r.fd))
	if err != nil {
		return "", err
	}
	path, err := os.Readlink(descriptor(dir))
	if err != nil {
		return "", err
	}
	path, inside := strings.CutPrefix(path, strings.TrimSuffix(top, "/"))
	if path == "" {
		path = "/"
	}
	if !inside || path[0] != '/' {
		return "", errOutside
	}
	return path, nil
}

// try fails with errOutside where path does not lead to dir.
func (r *root) try(path string, dir int) error {
	again, err := r.lookup(path, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%w: %w", errOutside, err)
	}
	defer closeFD(again)
	same, err := sameInode(dir, again)
	if err != nil {
		return err
	}
	if !same {
		return errOutside
	}
	return nil
}

func sameInode(a, b int) (bool, error) {
	var one, other unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &one), unix.Fstat(b, &other)); err != nil {
		return false, err
	}
	return one.Dev == other.Dev && one.Ino == other.Ino, nil
}

// pathError says what failed with a path of somebody else's, who may have made it long and put line breaks in it.
func pathError(verb, path string, err error) error {
	return fmt.Errorf("%s %.300q: %w", verb, path, err)
}

// closeFD closes a descriptor that nothing was written to: there is nothing left that could fail.
func closeFD(fd int) { _ = unix.Close(fd) }

// descriptor is the magic link of one of our own descriptors.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
