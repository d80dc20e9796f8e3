package containerhook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func TestReadConfigFindsTheBundle(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat(strings.Repeat("d", 199)+"/", 6)
	makeTree(t, dir, map[string]string{
		"b/config.json": "b", "b/sub/config.json": "sub", "link": "-> b", "abslink": "-> " + dir + "/b/sub",
		"b/to-sub": "-> sub", long + "config.json": "long", "links/config.json": "-> ../b/config.json",
		"b/other.json": "other",
	})
	for name, test := range map[string]struct {
		cwd           string
		cmd           command
		bundle, wants string
	}{
		"absolute":            {cwd: "/", cmd: command{bundle: dir + "/b"}, bundle: "/b", wants: "b"},
		"absolute with ..":    {cwd: "/", cmd: command{bundle: dir + "/b/sub/.."}, bundle: "/b", wants: "b"},
		"none":                {cwd: dir + "/b", bundle: "/b", wants: "b"},
		".":                   {cwd: dir + "/b", cmd: command{bundle: "."}, bundle: "/b", wants: "b"},
		"relative":            {cwd: dir, cmd: command{bundle: "b/sub/"}, bundle: "/b/sub", wants: "sub"},
		"relative with ..":    {cwd: dir + "/b/sub", cmd: command{bundle: "../../b"}, bundle: "/b", wants: "b"},
		".. behind a symlink": {cwd: dir, cmd: command{bundle: "abslink/.."}, bundle: "/b", wants: "b"},
		"a symlink":           {cwd: "/", cmd: command{bundle: dir + "/link"}, bundle: "/b", wants: "b"},
		"a relative symlink":  {cwd: dir, cmd: command{bundle: "link/to-sub"}, bundle: "/b/sub", wants: "sub"},
		"a cwd by a symlink":  {cwd: dir + "/abslink", cmd: command{bundle: ".."}, bundle: "/b", wants: "b"},
		"over 1,000 bytes": {
			cwd: "/", cmd: command{bundle: dir + "/" + long}, bundle: "/" + long[:len(long)-1], wants: "long",
		},
		"a symlinked config.json": {cwd: dir, cmd: command{bundle: "links"}, bundle: "/links", wants: "b"},
		"crun's --config": {
			cwd: "/", cmd: command{bundle: dir + "/b/sub", config: dir + "/b/other.json"}, bundle: "/b/sub", wants: "other",
		},
		"crun's --config, of the cwd": {
			cwd: dir + "/b", cmd: command{bundle: "sub", config: "other.json"}, bundle: "/b/sub", wants: "other",
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
	makeTree(t, dir, map[string]string{"empty": "/", "fifo/config.json": "|", "file": "x", "dangling": "-> nowhere"})
	for name, test := range map[string]struct {
		bundle, want string
		err          error
	}{
		"no config.json":    {"empty", dir + "/empty", fs.ErrNotExist},
		"no bundle":         {"none/../x", dir + "/x", fs.ErrNotExist},
		"a dangling bundle": {dir + "/dangling", dir + "/dangling", fs.ErrNotExist},
		"a file":            {"file", dir + "/file", unix.ENOTDIR},
		"a FIFO":            {"fifo", dir + "/fifo", errNotRegular},
		"over PATH_MAX":     {strings.Repeat("./", unix.PathMax), dir, unix.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			raw, bundle, err := callerIn(t, dir).readConfig(command{bundle: test.bundle})
			if raw != nil || bundle != test.want || !errors.Is(err, test.err) {
				t.Errorf("readConfig = %q, %q, %v; want %q, %v", raw, bundle, err, test.want, test.err)
			}
		})
	}
}

func TestReadConfigReadsNothingThatIsNotTheCallers(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"config.json": "secret"})
	c := callerIn(t, dir)
	c.uid = uint32(os.Geteuid()) + 1
	raw, bundle, err := c.readConfig(command{})
	if raw != nil || bundle != dir || !errors.Is(err, errForeign) {
		t.Errorf("readConfig = %q, %q, %v; want %v", raw, bundle, err, errForeign)
	}
}

func TestCallerSaysWhenItsCwdIsOfNoUse(t *testing.T) {
	dir := t.TempDir()
	deep := strings.Repeat("d", 250)
	makeTree(t, dir, map[string]string{"gone": "/", "b/config.json": "b"})
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
		"deleted": {deleted, errOutside}, "too deep": {tooDeep, unix.ENAMETOOLONG},
	} {
		if got, err := test.abs("x"); got != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: abs = %q, %v; want %v", name, got, err, test.err)
		}
		if raw, bundle, err := test.readConfig(command{}); raw != nil || bundle != "" || !errors.Is(err, test.err) {
			t.Errorf("%s: readConfig = %q, %q, %v; want %v", name, raw, bundle, err, test.err)
		}
		if raw, _, err := test.readConfig(command{bundle: dir + "/b"}); err != nil || string(raw) != "b" {
			t.Errorf("%s: readConfig of an absolute bundle = %q, %v", name, raw, err)
		}
	}
}

func TestReadConfigResolvesInTheCallersChroot(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{
		"new/b/config.json": "inside", "new/abs": "-> /b", "config.json": "outside", "new/up": "-> ../..", "newer": "/",
	})
	c := asCaller(t, func() error { return errors.Join(unix.Chroot(dir+"/new"), unix.Chdir("/b")) })
	for _, bundle := range []string{"", ".", "../b", "/b", "/abs", "../../../abs"} {
		raw, got, err := c.readConfig(command{bundle: bundle})
		if err != nil || string(raw) != "inside" || got != "/b" {
			t.Errorf("readConfig(%q) = %q, %q, %v", bundle, raw, got, err)
		}
	}
	for _, bundle := range []string{"../..", "/up", dir} {
		if raw, got, err := c.readConfig(command{bundle: bundle}); !errors.Is(err, fs.ErrNotExist) {
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
		if raw, got, err := escaped.readConfig(command{}); !errors.Is(err, errOutside) {
			t.Errorf("readConfig in %q = %q, %q, %v; want %v", outside, raw, got, err, errOutside)
		}
	}
}

func TestReadConfigResolvesInTheCallersMounts(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	makeTree(t, dir, map[string]string{"b/config.json": "below", "chroot": "/"})
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
			raw, got, err := test.readConfig(command{bundle: bundle})
			if err != nil || string(raw) != "mounted" || got != test.want {
				t.Errorf("%s: readConfig(%q) = %q, %q, %v", name, bundle, raw, got, err)
			}
		}
	}
	// A cwd that was mounted over has no path any more.
	covered := asCaller(t, func() error { return errors.Join(unix.Chdir(dir+"/b"), ownMount()) })
	if raw, got, err := covered.readConfig(command{}); !errors.Is(err, errOutside) {
		t.Errorf("covered: readConfig = %q, %q, %v; want %v", raw, got, err, errOutside)
	}
}

func TestParseConfigReadsRealFiles(t *testing.T) {
	for _, name := range []string{"runc-1.1.5.json", "crun-1.8.1.json"} {
		raw, err := os.ReadFile("testdata/config/" + name)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := parseConfig(raw, "runc")
		if err != nil {
			t.Fatal(err)
		}
		if spec.Process == nil || len(spec.Process.Args) != 1 || spec.Process.Args[0] != "sh" || spec.Linux == nil {
			t.Errorf("%s: %+v is not the default spec", name, spec)
		}
	}
}

func TestParseConfigIsStrictAboutNothingButJSON(t *testing.T) {
	for name, raw := range map[string]string{
		"empty object":       `{}`,
		"unknown names":      `{"process":{"args":["sh"],"new":[1,{}]},"newer":null}`,
		"text behind it":     `{"process":{"args":["sh"]}} trailing`,
		"nulls":              `{"process":null,"linux":null,"mounts":null}`,
		"not UTF-8":          "{\"hostname\":\"\xff\"}",
		"a name given twice": `{"hostname":"a","hostname":"b"}`,
	} {
		if spec, err := parseConfig([]byte(raw), "runc"); err != nil || spec == nil {
			t.Errorf("%s: %v, %v", name, spec, err)
		}
	}
	spec, err := parseConfig([]byte(`{"hostname":"h","process":{"args":"sh","cwd":"/"}}`), "runc")
	if err == nil || spec == nil || spec.Hostname != "h" || spec.Process.Cwd != "/" {
		t.Errorf("a value of another type: %+v, %v; want the rest, and an error", spec, err)
	}
}

// TestCommasInStringsAreNoValues: else a pod's author blinds the inventory to his own container.
func TestCommasInStringsAreNoValues(t *testing.T) {
	text := strings.Repeat(",", maxValues+1)
	spec, err := parseConfig([]byte(`{"process":{"env":["A=\\\"`+text+`"]},"annotations":{"`+text+`":"x,\\"}}`), "runc")
	if err != nil || len(spec.Process.Env) != 1 || spec.Annotations[text] != `x,\` {
		t.Errorf("%v", err)
	}
}

// TestParseConfigReadsAsTheRuntimeDoes: each case is what a container's author writes for one runtime to read otherwise.
func TestParseConfigReadsAsTheRuntimeDoes(t *testing.T) {
	const (
		twice    = `{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN"]}},"process":{"capabilities":{"bounding":["CAP_CHOWN"]}}}`
		upper    = `{"process":{"capabilities":{"bounding":["CAP_SYS_ADMIN"]}},"PROCESS":{"capabilities":{"bounding":["CAP_CHOWN"]}}}`
		comments = "/* by hand */ {\"process\": // first\n {\"cwd\":\"/*\\\"//\",\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"]}}} // end"
		spelling = `{"process":{"capabilities":{"bounding":["cap_sys_admin"]}}}`
		noRules  = `{"linux":{}}`
		denied   = `{"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}`
	)
	for _, c := range []struct {
		runtime, raw string
		err          error
		capability   string
		rules        int
	}{
		{runtime: "runc", raw: twice, capability: "CAP_CHOWN"},
		{runtime: "crun", raw: twice, err: errNamesTwice},
		{runtime: "youki", raw: twice, err: errNamesTwice},
		{runtime: "runc", raw: upper, capability: "CAP_CHOWN"},
		{runtime: "crun", raw: upper, capability: "CAP_SYS_ADMIN"},
		{runtime: "youki", raw: upper, capability: "CAP_SYS_ADMIN"},
		{runtime: "runc", raw: comments, err: errNotJSON},
		{runtime: "crun", raw: comments, capability: "CAP_CHOWN"},
		{runtime: "youki", raw: comments, err: errNotJSON},
		{runtime: "runc", raw: spelling, capability: "cap_sys_admin"},
		{runtime: "crio-crun", raw: spelling, capability: "CAP_SYS_ADMIN"},
		{runtime: "runc", raw: noRules},
		{runtime: "crun", raw: noRules, rules: 1},
		{runtime: "crun", raw: denied, rules: 1},
		{runtime: "crun", raw: `{"process":{"cwd":1}}`, err: errOtherType},
		{runtime: "crun", raw: `{} trailing`, err: errNotJSON},
		{runtime: "crun", raw: `{ /* without end`, err: errNotJSON},
	} {
		spec, err := parseConfig([]byte(c.raw), c.runtime)
		capability, rules, all := "", 0, false
		if spec != nil && spec.Process != nil && spec.Process.Capabilities != nil {
			capability = spec.Process.Capabilities.Bounding[0]
		}
		if spec != nil && spec.Linux != nil && spec.Linux.Resources != nil {
			rules, all = len(spec.Linux.Resources.Devices), spec.Linux.Resources.Devices[0].Allow
		}
		if !errors.Is(err, c.err) || capability != c.capability || rules != c.rules || all != (c.raw == noRules && rules > 0) {
			t.Errorf("%s reads %s as %q, %d rules (allow %t), %v", c.runtime, c.raw, capability, rules, all, err)
		}
	}
}

func TestParseConfigRejectsWhatIsNoConfig(t *testing.T) {
	secret := "root:$6$salt$hash:19000:0:99999:7:::"
	for name, test := range map[string]struct {
		raw string
		err error
	}{
		"nothing":          {"", errNotJSON},
		"a secret":         {secret, errNotJSON},
		"cut off":          {`{"hostname":"` + secret, errNotJSON},
		"NUL":              {"{\"hostname\":\"\x00\"}", errNotJSON},
		"depth bomb":       {strings.Repeat("[", 1<<20), errNotJSON},
		"closed depth":     {`{"x":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + "}", errNotJSON},
		"depth of objects": {strings.Repeat(`{"linux":`, 10_001), errNotJSON},
		"100 MB":           {strings.Repeat(" ", 100<<20), errTooLarge},
		"many mounts":      {`{"mounts":[{}` + strings.Repeat(",{}", maxValues+1) + `]}`, errTooLarge},
	} {
		spec, err := parseConfig([]byte(test.raw), "runc")
		if spec != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %+v, %v; want %v", name, spec, err, test.err)
		}
	}
	for _, raw := range []string{secret, `["` + secret + `"]`, `{"hostname":4711}`, `{"hostname":"` + secret + `"`} {
		if _, err := parseConfig([]byte(raw), "runc"); err == nil || strings.ContainsAny(err.Error(), "$47") {
			t.Errorf("the error %v quotes %q", err, raw)
		}
	}
}

func addFiles(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds in %q: %v", pattern, err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

func FuzzParseConfig(f *testing.F) {
	addFiles(f, "testdata/config/*.json")
	for _, raw := range []string{"", "{}", "[]", `{"process":{"args":1}}`, `{"mounts":[{}]} x`, strings.Repeat("[", 99)} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, runtime := range []string{"runc", "crun", "youki"} {
			if spec, err := parseConfig(raw, runtime); spec == nil && err == nil || spec != nil && errors.Is(err, errNotJSON) {
				t.Fatalf("%s: parseConfig = %v, %v", runtime, spec, err)
			}
		}
	})
}

// readConfig opens what cmd names, and reads it.
func (c *caller) readConfig(cmd command) (raw []byte, bundle string, err error) {
	config, bundle, err := c.openConfig(cmd)
	if err != nil {
		return nil, bundle, err
	}
	defer config.Close()
	raw, err = readOwnedFile(config, maxConfig, c.uid)
	return raw, bundle, err
}
