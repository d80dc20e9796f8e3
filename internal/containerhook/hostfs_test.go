package containerhook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openTestRoot(t *testing.T, dir string) *root {
	t.Helper()
	r, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// makeTree makes files, and the directories they need. "-> x" is a symlink to x, "|" a FIFO, "/" a directory.
func makeTree(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, content := range tree {
		name = filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		target, isLink := strings.CutPrefix(content, "-> ")
		switch {
		case err != nil:
		case content == "/":
			err = os.MkdirAll(name, 0o755)
		case content == "|":
			err = unix.Mkfifo(name, 0o600)
		case isLink:
			err = os.Symlink(target, name)
		default:
			err = os.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadFollowsSymlinksThatStayInTheRoot(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{
		"a/file": "content", "a/rel": "-> ../a/file", "abs": "-> /a/file", "up": "-> ../../../../a/file", "dir": "-> /a",
	})
	r := openTestRoot(t, dir)
	for _, name := range []string{
		"/a/file", "a/file", "a/rel", "/abs", "up", "/dir/file", "/../../a/./file", "dir/../a/file",
	} {
		if got, err := r.read(name, 7); err != nil || string(got) != "content" {
			t.Errorf("read(%q) = %q, %v", name, got, err)
		}
	}
}

func TestReadDoesNotLeaveTheRoot(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	makeTree(t, dir, map[string]string{
		"secret": "secret", "root/abs": "-> " + secret, "root/up": "-> ../secret", "root/a/up": "-> ../../secret",
		"root/loop": "-> loop",
	})
	r := openTestRoot(t, filepath.Join(dir, "root"))
	for name, want := range map[string]error{
		"abs": fs.ErrNotExist, "up": fs.ErrNotExist, "a/up": fs.ErrNotExist, "../secret": fs.ErrNotExist,
		secret: fs.ErrNotExist, "loop": unix.ELOOP, "": fs.ErrNotExist, "abs/x": fs.ErrNotExist,
		strings.Repeat("x/", unix.PathMax): unix.ENAMETOOLONG, "a\x00b": unix.EINVAL,
	} {
		if got, err := r.read(name, 100); !errors.Is(err, want) {
			t.Errorf("read(%.20q) = %q, %v; want %v", name, got, err, want)
		}
	}
}

func TestErrorsAreFitToBeLogged(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"a\nb\x1b/fifo": "|", "a\nb\x1b/file": "1234"})
	r := openTestRoot(t, dir)
	for _, name := range []string{"no\nne", "a\nb\x1b/fifo", "a\nb\x1b/file", strings.Repeat("x/", unix.PathMax)} {
		_, readErr := r.read(name, 3)
		_, dirErr := r.realDir(name)
		_, namesErr := r.names(name)
		for _, err := range []error{readErr, dirErr, namesErr} {
			if err == nil || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the error of %.20q is %.500q", name, err)
			}
		}
	}
}

func TestReadDoesNotFollowMagicLinks(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"secret": "secret", "link": "-> /proc/self/root" + dir + "/secret"})
	f, err := os.Open(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := openTestRoot(t, "/")
	for _, name := range []string{
		"/proc/self/root" + dir + "/secret", dir + "/link", descriptor(int(f.Fd())), "/proc/self/cwd/go.mod",
	} {
		if got, err := r.read(name, 100); !errors.Is(err, unix.ELOOP) {
			t.Errorf("read(%q) = %q, %v; want ELOOP", name, got, err)
		}
	}
	if got, err := r.read(dir+"/secret", 100); err != nil || string(got) != "secret" {
		t.Errorf("read of the file itself = %q, %v", got, err)
	}
}

func TestOpenTakesOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"dir": "/", "fifo": "|", "zero": "-> /dev/zero", "to-fifo": "-> " + dir + "/fifo"})
	r := openTestRoot(t, "/")
	for _, name := range []string{
		dir, dir + "/dir", dir + "/fifo", dir + "/to-fifo", dir + "/zero", "/dev/null", "/dev/ptmx",
	} {
		if f, err := r.open(name); !errors.Is(err, errNotRegular) {
			t.Errorf("open(%q) = %v, %v; want %v", name, f, err, errNotRegular)
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"file": "1234", "sparse": ""})
	if err := os.Truncate(filepath.Join(dir, "sparse"), 100<<20); err != nil {
		t.Fatal(err)
	}
	r := openTestRoot(t, dir)
	if got, err := r.read("file", 4); err != nil || string(got) != "1234" {
		t.Errorf("read within the limit = %q, %v", got, err)
	}
	for name, limit := range map[string]int64{"file": 3, "sparse": maxConfig} {
		if got, err := r.read(name, limit); !errors.Is(err, errTooLarge) {
			t.Errorf("read(%q, %d) = %d bytes, %v; want %v", name, limit, len(got), err, errTooLarge)
		}
	}
}

func TestReadTakesNothingFromTheKernelsFiles(t *testing.T) {
	r := openTestRoot(t, "/")
	if got, err := r.read("/proc/"+strconv.Itoa(os.Getpid())+"/environ", 1<<20); err != nil || len(got) != 0 {
		t.Errorf("read of an environ = %d bytes, %v; want none", len(got), err)
	}
}

func TestReadOwnedAllowsUsersOnlyWhatIsTheirs(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"file": "content"})
	r, me := openTestRoot(t, dir), uint32(os.Getuid())
	for _, uid := range []uint32{0, me} {
		if _, err := r.readOwned("file", 100, uid); err != nil {
			t.Errorf("readOwned by %d: %v", uid, err)
		}
	}
	if got, err := r.readOwned("file", 100, me+1); !errors.Is(err, errForeign) {
		t.Errorf("readOwned by another user = %q, %v; want %v", got, err, errForeign)
	}
}

func TestOpenDoesNotWaitForALease(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"file": "content"})
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	if _, err := openTestRoot(t, dir).open("file"); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("open of a leased file: %v; want EWOULDBLOCK", err)
	}
}

// A directory and a file are exchanged with hostile ones all the time: what is read is the content or an error.
func TestReadIsSafeAgainstSwaps(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{
		"secret/file": "secret", "root/dir/file": "content", "root/dir/fifo": "|", "root/evil": "-> ../secret",
	})
	path := func(name string) string { return filepath.Join(dir, "root", name) }
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			for _, pair := range [][2]string{{"dir/file", "dir/fifo"}, {"dir", "evil"}, {"evil", "dir"}} {
				err := unix.Renameat2(unix.AT_FDCWD, path(pair[0]), unix.AT_FDCWD, path(pair[1]), unix.RENAME_EXCHANGE)
				if err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	r := openTestRoot(t, filepath.Join(dir, "root"))
	read, refused := 0, 0
	for range 3000 {
		switch got, err := r.read("dir/../dir/file", 100); {
		case err != nil:
			refused++
		case string(got) != "content":
			t.Fatalf("read = %q", got)
		default:
			read++
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if read == 0 || refused == 0 {
		t.Errorf("%d reads and %d refused: the race was not run", read, refused)
	}
}

func TestRealDirIsTheOneNameOfADirectory(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"run/docker": "/", "var/run": "-> ../run", "abs": "-> /var/run/docker"})
	r := openTestRoot(t, dir)
	for _, name := range []string{"/run/docker", "/var/run/docker", "var/run/docker/", "/abs", "/run/../run/./docker"} {
		if got, err := r.realDir(name); err != nil || got != "/run/docker" {
			t.Errorf("realDir(%q) = %q, %v", name, got, err)
		}
	}
	if got, err := r.realDir("/.."); err != nil || got != "/" {
		t.Errorf("realDir of the top = %q, %v", got, err)
	}
	if got, err := r.realDir("/run/runc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("realDir of nothing = %q, %v", got, err)
	}
}

func TestSubIsARootOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{
		"sub/file": "content", "secret": "secret", "sub/up": "-> ../secret", "sub/abs": "-> /file",
	})
	sub, err := openTestRoot(t, dir).sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, name := range []string{"file", "abs"} {
		if got, err := sub.read(name, 100); err != nil || string(got) != "content" {
			t.Errorf("read(%q) = %q, %v", name, got, err)
		}
	}
	if got, err := sub.read("up", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read above = %q, %v", got, err)
	}
	if uid, err := sub.owner(); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("owner = %d, %v", uid, err)
	}
}
