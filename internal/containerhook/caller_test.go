package containerhook

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
	"github.com/containerhook/containerhook/internal/containerhook/oci"
)

// asCaller has a thread of its own do what prepare says, which may change its working directory, root and mounts, and
// returns the thread as a caller.
func asCaller(t *testing.T, prepare func() error) *caller {
	t.Helper()
	type ready struct {
		tid int
		err error
	}
	prepared, done, gone := make(chan ready), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		runtime.LockOSThread() // for good: the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = prepare()
		}
		prepared <- ready{unix.Gettid(), err}
		<-done
	}()
	t.Cleanup(func() {
		close(done)
		<-gone
	})
	thread := <-prepared
	if thread.err != nil {
		t.Fatal(thread.err)
	}
	c, err := openCaller("/proc", thread.tid, uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func callerIn(t *testing.T, dir string) *caller {
	t.Helper()
	return asCaller(t, func() error { return unix.Chdir(dir) })
}

func TestReadConfigFindsTheBundle(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat(strings.Repeat("d", 199)+"/", 6)
	hosttest.MakeTree(t, dir, map[string]string{
		"b/config.json": "b", "b/sub/config.json": "sub", "link": "-> b", "abslink": "-> " + dir + "/b/sub",
		"b/to-sub": "-> sub", long + "config.json": "long", "links/config.json": "-> ../b/config.json",
		"b/other.json": "other",
	})
	for name, test := range map[string]struct {
		cwd           string
		cmd           oci.Command
		bundle, wants string
	}{
		"absolute":            {cwd: "/", cmd: oci.Command{Bundle: dir + "/b"}, bundle: "/b", wants: "b"},
		"absolute with ..":    {cwd: "/", cmd: oci.Command{Bundle: dir + "/b/sub/.."}, bundle: "/b", wants: "b"},
		"none":                {cwd: dir + "/b", bundle: "/b", wants: "b"},
		".":                   {cwd: dir + "/b", cmd: oci.Command{Bundle: "."}, bundle: "/b", wants: "b"},
		"relative":            {cwd: dir, cmd: oci.Command{Bundle: "b/sub/"}, bundle: "/b/sub", wants: "sub"},
		"relative with ..":    {cwd: dir + "/b/sub", cmd: oci.Command{Bundle: "../../b"}, bundle: "/b", wants: "b"},
		".. behind a symlink": {cwd: dir, cmd: oci.Command{Bundle: "abslink/.."}, bundle: "/b", wants: "b"},
		"a symlink":           {cwd: "/", cmd: oci.Command{Bundle: dir + "/link"}, bundle: "/b", wants: "b"},
		"a relative symlink":  {cwd: dir, cmd: oci.Command{Bundle: "link/to-sub"}, bundle: "/b/sub", wants: "sub"},
		"a cwd by a symlink":  {cwd: dir + "/abslink", cmd: oci.Command{Bundle: ".."}, bundle: "/b", wants: "b"},
		"over 1,000 bytes": {
			cwd: "/", cmd: oci.Command{Bundle: dir + "/" + long}, bundle: "/" + long[:len(long)-1], wants: "long",
		},
		"a symlinked config.json": {cwd: dir, cmd: oci.Command{Bundle: "links"}, bundle: "/links", wants: "b"},
		"crun's --config": {
			cwd: "/", cmd: oci.Command{Bundle: dir + "/b/sub", Config: dir + "/b/other.json"}, bundle: "/b/sub", wants: "other",
		},
		"crun's --config, of the cwd": {
			cwd: dir + "/b", cmd: oci.Command{Bundle: "sub", Config: "other.json"}, bundle: "/b/sub", wants: "other",
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, bundle, err := callerIn(t, test.cwd).readConfig(test.cmd)
			if err != nil || string(raw) != test.wants || bundle != dir+test.bundle {
				t.Errorf("readConfig = %q, %q, %v; want %q, %q", raw, bundle, err, test.wants, dir+test.bundle)
			}
		})
	}
}

func TestReadConfigDoesNotFindWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"empty": "/", "fifo/config.json": "|", "file": "x", "dangling": "-> nowhere"})
	for name, test := range map[string]struct {
		bundle, want string
		err          error
	}{
		"no config.json":    {"empty", dir + "/empty", fs.ErrNotExist},
		"no bundle":         {"none/../x", dir + "/x", fs.ErrNotExist},
		"a dangling bundle": {dir + "/dangling", dir + "/dangling", fs.ErrNotExist},
		"a file":            {"file", dir + "/file", unix.ENOTDIR},
		"a FIFO":            {"fifo", dir + "/fifo", hostfs.ErrNotRegular},
		"over PATH_MAX":     {strings.Repeat("./", unix.PathMax), dir, unix.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			raw, bundle, err := callerIn(t, dir).readConfig(oci.Command{Bundle: test.bundle})
			if raw != nil || bundle != test.want || !errors.Is(err, test.err) {
				t.Errorf("readConfig = %q, %q, %v; want %q, %v", raw, bundle, err, test.want, test.err)
			}
		})
	}
}

func TestReadConfigReadsNothingThatIsNotTheCallers(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"config.json": "secret"})
	c := callerIn(t, dir)
	c.uid = uint32(os.Geteuid()) + 1
	raw, bundle, err := c.readConfig(oci.Command{})
	if raw != nil || bundle != dir || !errors.Is(err, hostfs.ErrForeign) {
		t.Errorf("readConfig = %q, %q, %v; want %v", raw, bundle, err, hostfs.ErrForeign)
	}
}

func TestCallerSaysWhenItsCwdIsOfNoUse(t *testing.T) {
	dir := t.TempDir()
	deep := strings.Repeat("d", 250)
	hosttest.MakeTree(t, dir, map[string]string{"gone": "/", "b/config.json": "b"})
	deleted := asCaller(t, func() error { return errors.Join(unix.Chdir(dir+"/gone"), unix.Rmdir(dir+"/gone")) })
	tooDeep := asCaller(t, func() error {
		err := unix.Chdir(dir)
		for range unix.PathMax/len(deep) + 1 {
			err = errors.Join(err, unix.Mkdir(deep, 0o755), unix.Chdir(deep))
		}
		return err
	})
	for name, test := range map[string]struct {
		*caller
		err error
	}{
		"deleted": {deleted, hostfs.ErrOutside}, "too deep": {tooDeep, unix.ENAMETOOLONG},
	} {
		if got, err := test.abs("x"); got != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: abs = %q, %v; want %v", name, got, err, test.err)
		}
		if raw, bundle, err := test.readConfig(oci.Command{}); raw != nil || bundle != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: readConfig = %q, %q, %v; want %v", name, raw, bundle, err, test.err)
		}
		if raw, _, err := test.readConfig(oci.Command{Bundle: dir + "/b"}); err != nil || string(raw) != "b" {
			t.Errorf("%s: readConfig of an absolute bundle = %q, %v", name, raw, err)
		}
	}
}

func TestReadConfigResolvesInTheCallersChroot(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"new/b/config.json": "inside", "new/abs": "-> /b", "config.json": "outside", "new/up": "-> ../..", "newer": "/",
	})
	c := asCaller(t, func() error { return errors.Join(unix.Chroot(dir+"/new"), unix.Chdir("/b")) })
	for _, bundle := range []string{"", ".", "../b", "/b", "/abs", "../../../abs"} {
		raw, got, err := c.readConfig(oci.Command{Bundle: bundle})
		if err != nil || string(raw) != "inside" || got != "/b" {
			t.Errorf("readConfig(%q) = %q, %q, %v", bundle, raw, got, err)
		}
	}
	for _, bundle := range []string{"../..", "/up", dir} {
		if raw, got, err := c.readConfig(oci.Command{Bundle: bundle}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("readConfig(%q) = %q, %q, %v; want nothing", bundle, raw, got, err)
		}
	}
	// A directory that was open before: the way out of a chroot. /newer begins like /new.
	for _, outside := range []string{dir, dir + "/newer"} {
		escaped := asCaller(t, func() error {
			fd, err := unix.Open(outside, unix.O_PATH, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Chroot(dir+"/new"), unix.Fchdir(fd), unix.Close(fd))
		})
		if raw, got, err := escaped.readConfig(oci.Command{}); !errors.Is(err, hostfs.ErrOutside) {
			t.Errorf("readConfig in %q = %q, %q, %v; want %v", outside, raw, got, err, hostfs.ErrOutside)
		}
	}
}

func TestReadConfigResolvesInTheCallersMounts(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{"b/config.json": "below", "chroot": "/"})
	ownMount := func() error {
		return errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("none", dir, "tmpfs", 0, ""), unix.Mkdir(dir+"/b", 0o755), unix.Mkdir(dir+"/b/sub", 0o755),
			os.WriteFile(dir+"/b/config.json", []byte("mounted"), 0o644))
	}
	inMount := asCaller(t, func() error { return errors.Join(ownMount(), unix.Chdir(dir+"/b/sub")) })
	inChroot := asCaller(t, func() error { return errors.Join(ownMount(), unix.Chroot(dir), unix.Chdir("/b/sub")) })
	for name, test := range map[string]struct {
		*caller
		want string
	}{
		"mount": {inMount, dir + "/b"}, "chroot in a mount": {inChroot, "/b"},
	} {
		for _, bundle := range []string{"..", test.want} {
			raw, got, err := test.readConfig(oci.Command{Bundle: bundle})
			if err != nil || string(raw) != "mounted" || got != test.want {
				t.Errorf("%s: readConfig(%q) = %q, %q, %v", name, bundle, raw, got, err)
			}
		}
	}
	// A cwd that was mounted over has no path any more.
	covered := asCaller(t, func() error { return errors.Join(unix.Chdir(dir+"/b"), ownMount()) })
	if raw, got, err := covered.readConfig(oci.Command{}); !errors.Is(err, hostfs.ErrOutside) {
		t.Errorf("covered: readConfig = %q, %q, %v; want %v", raw, got, err, hostfs.ErrOutside)
	}
}

// readConfig opens what cmd names, and reads it.
func (c *caller) readConfig(cmd oci.Command) (raw []byte, bundle string, err error) {
	config, bundle, err := c.openConfig(cmd)
	if err != nil {
		return nil, bundle, err
	}
	defer config.Close()
	raw, err = hostfs.ReadOwnedFile(config, oci.MaxConfig, c.uid)
	return raw, bundle, err
}
