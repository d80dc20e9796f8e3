package hostfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
)

func TestReadFollowsSymlinksThatStayInTheRoot(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"a/file": "content", "a/rel": "-> ../a/file", "abs": "-> /a/file", "up": "-> ../../../../a/file", "dir": "-> /a",
	})
	r := hosttest.Open(t, Open, dir)
	for _, name := range []string{
		"/a/file", "a/file", "a/rel", "/abs", "up", "/dir/file", "/../../a/./file", "dir/../a/file",
	} {
		if got, err := r.Read(name, 7); err != nil || string(got) != "content" {
			t.Errorf("read(%q) = %q, %v", name, got, err)
		}
	}
}

func TestReadDoesNotLeaveTheRoot(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	hosttest.MakeTree(t, dir, map[string]string{
		"secret": "secret", "root/abs": "-> " + secret, "root/up": "-> ../secret", "root/a/up": "-> ../../secret",
		"root/loop": "-> loop",
	})
	r := hosttest.Open(t, Open, filepath.Join(dir, "root"))
	for name, want := range map[string]error{
		"abs": fs.ErrNotExist, "up": fs.ErrNotExist, "a/up": fs.ErrNotExist, "../secret": fs.ErrNotExist,
		secret: fs.ErrNotExist, "loop": unix.ELOOP, "": fs.ErrNotExist, "abs/x": fs.ErrNotExist,
		strings.Repeat("x/", unix.PathMax): unix.ENAMETOOLONG, "a\x00b": unix.EINVAL,
	} {
		if got, err := r.Read(name, 100); !errors.Is(err, want) {
			t.Errorf("read(%.20q) = %q, %v; want %v", name, got, err, want)
		}
	}
}

func TestErrorsAreFitToBeLogged(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"a\nb\x1b/fifo": "|", "a\nb\x1b/file": "1234"})
	r := hosttest.Open(t, Open, dir)
	for _, name := range []string{"no\nne", "a\nb\x1b/fifo", "a\nb\x1b/file", strings.Repeat("x/", unix.PathMax)} {
		_, readErr := r.Read(name, 3)
		_, dirErr := r.RealDir(name)
		_, namesErr := r.Names(name)
		for _, err := range []error{readErr, dirErr, namesErr} {
			if err == nil || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the error of %.20q is %.500q", name, err)
			}
		}
	}
}

func TestReadDoesNotFollowMagicLinks(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"secret": "secret", "link": "-> /proc/self/root" + dir + "/secret"})
	f, err := os.Open(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := hosttest.Open(t, Open, "/")
	for _, name := range []string{
		"/proc/self/root" + dir + "/secret", dir + "/link", Descriptor(int(f.Fd())), "/proc/self/cwd/go.mod",
	} {
		if got, err := r.Read(name, 100); !errors.Is(err, unix.ELOOP) {
			t.Errorf("read(%q) = %q, %v; want ELOOP", name, got, err)
		}
	}
	if got, err := r.Read(dir+"/secret", 100); err != nil || string(got) != "secret" {
		t.Errorf("read of the file itself = %q, %v", got, err)
	}
}

func TestOpenTakesOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"dir": "/", "fifo": "|", "zero": "-> /dev/zero", "to-fifo": "-> " + dir + "/fifo"})
	r := hosttest.Open(t, Open, "/")
	for _, name := range []string{
		dir, dir + "/dir", dir + "/fifo", dir + "/to-fifo", dir + "/zero", "/dev/null", "/dev/ptmx",
	} {
		if f, err := r.Open(name); !errors.Is(err, ErrNotRegular) {
			t.Errorf("open(%q) = %v, %v; want %v", name, f, err, ErrNotRegular)
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"file": "1234", "sparse": ""})
	if err := os.Truncate(filepath.Join(dir, "sparse"), 100<<20); err != nil {
		t.Fatal(err)
	}
	r := hosttest.Open(t, Open, dir)
	if got, err := r.Read("file", 4); err != nil || string(got) != "1234" {
		t.Errorf("read within the limit = %q, %v", got, err)
	}
	for name, limit := range map[string]int64{"file": 3, "sparse": 4 << 20} {
		if got, err := r.Read(name, limit); !errors.Is(err, ErrTooLarge) {
			t.Errorf("read(%q, %d) = %d bytes, %v; want %v", name, limit, len(got), err, ErrTooLarge)
		}
	}
}

func TestReadTakesNothingFromTheKernelsFiles(t *testing.T) {
	r := hosttest.Open(t, Open, "/")
	if got, err := r.Read("/proc/"+strconv.Itoa(os.Getpid())+"/environ", 1<<20); err != nil || len(got) != 0 {
		t.Errorf("read of an environ = %d bytes, %v; want none", len(got), err)
	}
}

func TestReadOwnedAllowsUsersOnlyWhatIsTheirs(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"file": "content"})
	r, me := hosttest.Open(t, Open, dir), uint32(os.Getuid())
	for _, uid := range []uint32{0, me} {
		if _, err := r.ReadOwned("file", 100, uid); err != nil {
			t.Errorf("readOwned by %d: %v", uid, err)
		}
	}
	if got, err := r.ReadOwned("file", 100, me+1); !errors.Is(err, ErrForeign) {
		t.Errorf("readOwned by another user = %q, %v; want %v", got, err, ErrForeign)
	}
}

func TestOpenDoesNotWaitForALease(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"file": "content"})
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	if _, err := hosttest.Open(t, Open, dir).Open("file"); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("open of a leased file: %v; want EWOULDBLOCK", err)
	}
}

// A directory and a file are exchanged with hostile ones all the time: what is read is the content or an error.
func TestReadIsSafeAgainstSwaps(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
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
	r := hosttest.Open(t, Open, filepath.Join(dir, "root"))
	read, refused := 0, 0
	for range 3000 {
		switch got, err := r.Read("dir/../dir/file", 100); {
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
	hosttest.MakeTree(t, dir, map[string]string{"run/docker": "/", "var/run": "-> ../run", "abs": "-> /var/run/docker"})
	r := hosttest.Open(t, Open, dir)
	for _, name := range []string{"/run/docker", "/var/run/docker", "var/run/docker/", "/abs", "/run/../run/./docker"} {
		if got, err := r.RealDir(name); err != nil || got != "/run/docker" {
			t.Errorf("realDir(%q) = %q, %v", name, got, err)
		}
	}
	if got, err := r.RealDir("/.."); err != nil || got != "/" {
		t.Errorf("realDir of the top = %q, %v", got, err)
	}
	if got, err := r.RealDir("/run/runc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("realDir of nothing = %q, %v", got, err)
	}
}

func TestSubIsARootOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"sub/file": "content", "secret": "secret", "sub/up": "-> ../secret", "sub/abs": "-> /file",
	})
	sub, err := hosttest.Open(t, Open, dir).Sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, name := range []string{"file", "abs"} {
		if got, err := sub.Read(name, 100); err != nil || string(got) != "content" {
			t.Errorf("read(%q) = %q, %v", name, got, err)
		}
	}
	if got, err := sub.Read("up", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read above = %q, %v", got, err)
	}
	if uid, err := sub.Owner(); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("owner = %d, %v", uid, err)
	}
}
