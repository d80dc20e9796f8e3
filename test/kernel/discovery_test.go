package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// try is do for other goroutines than the test's, and for at most 20 s.
func (n *node) try(runtime string, args ...string) error {
	return n.quick(n.command(runtime, args...))
}

// quick runs a command for at most 20 s.
func (n *node) quick(cmd *exec.Cmd) error {
	cmd = exec.Command("timeout", append([]string{"20"}, cmd.Args...)...)
	out, err := os.CreateTemp(n.dir, "output-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}

// seenBy says how a container became known.
func seenBy(c *v1alpha1.NodeContainer) string {
	if observed := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionObserved); observed != nil {
		return observed.Reason
	}
	return "no condition"
}

// marks are the inodes that the agent's fanotify group has marks on, as the kernel tells: the heartbeat's is one.
func (a *agent) marks() map[uint64]bool {
	a.t.Helper()
	marks := map[uint64]bool{}
	a.eventually("with a fanotify group", func() error {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", a.gate()))
		groups := 0
		for _, file := range files {
			info, _ := os.ReadFile(file) // closed meanwhile, perhaps
			if !bytes.Contains(info, []byte("\nfanotify flags:")) {
				continue
			}
			groups++
			for line := range strings.Lines(string(info)) {
				var ino uint64
				if n, _ := fmt.Sscanf(line, "fanotify ino:%x ", &ino); n == 1 {
					marks[ino] = true
				}
			}
		}
		if err == nil && groups != 1 {
			err = fmt.Errorf("%d groups", groups)
		}
		return err
	})
	return marks
}

// files is how many descriptors the worker has open.
func (a *agent) files() int {
	a.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.worker()))
	if err != nil {
		a.t.Fatal(err)
	}
	return len(open)
}

func inodeOf(name string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, fmt.Errorf("stat %q: %w", name, err)
	}
	return st.Ino, nil
}

// marksExactly waits until the marks are those of these files and of the heartbeat.
func (a *agent) marksExactly(names ...string) time.Duration {
	a.t.Helper()
	begin := time.Now()
	a.eventually("with the right marks", func() error {
		marks, want := a.marks(), map[uint64]bool{}
		for _, name := range names {
			ino, err := inodeOf(name)
			if err != nil {
				return err
			}
			if want[ino] = true; !marks[ino] {
				return fmt.Errorf("%s is not marked", name)
			}
		}
		if len(marks) != len(want)+1 {
			return fmt.Errorf("%d marks, want %d and the heartbeat's", len(marks), len(want))
		}
		return nil
	})
	return time.Since(begin)
}

// madeBy has a container made by the binary that is at path now, and says what the agent told of it when it had ended.
func (n *node) madeBy(a *agent, path string) v1alpha1.NodeContainer {
	n.t.Helper()
	id, bundle := n.bundle([]string{"exit", "0"}, nil)
	defer n.must(path, "delete", "--force", id) // now: later there may be no binary at that path
	n.must(path, "create", "--bundle", bundle, id)
	n.must(path, "start", id)
	return a.wait(id, v1alpha1.StateStopped)
}

// TestARuntimeThatIsReplacedIsMarkedAgain: many times by rename, half of them by the very process that becomes the runtime
// then, so that nobody can be faster; and others are made beside. What nobody held the listing finds, and counts. crun
// executes itself once more, and then it is held mostly; so some of them are runc.
func TestARuntimeThatIsReplacedIsMarkedAgain(t *testing.T) {
	times := machine.Volume(60, 200)
	n := newNode(t)
	runtimeOf := func(i int) string {
		if i%4 == 0 {
			return n.runc
		}
		return n.crun
	}
	spareOf := func(i int) string { return fmt.Sprintf("%s-%d", runtimeOf(i), i) }
	for i := range times { // before anything is executed: a file that some process may write to cannot be
		copyFile(t, runtimeOf(i), spareOf(i))
	}
	a := n.startAgent()
	a.marksExactly(n.runc, n.crun, n.conmon, n.marked)
	filesBefore := a.files()
	coming := n.newChurn(n.crun)
	for i := range times {
		coming.make(runtimeOf(i), i%4 < 2, func(runtime string, args ...string) error {
			cmd := n.command(runtime, args...)
			if i%2 == 0 {
				cmd.Args = slices.Insert(cmd.Args, slices.Index(cmd.Args, runtime), probeBinary, "replace", spareOf(i))
			} else if err := os.Rename(spareOf(i), runtime); err != nil {
				return err
			}
			return n.quick(cmd)
		})
	}
	born := coming.end()
	t.Cleanup(func() { n.removeAll(born) })
	listed := 0
	for _, b := range born {
		c := a.wait(b.id, v1alpha1.StateRunning)
		if seenBy(&c) == v1alpha1.ReasonListing {
			listed++
		}
		a.checkOnce(b.id)
	}
	unseen := a.metric("containerhook_missed_containers_total")
	t.Logf("%d renames, %d containers: %d were missed by the hook and found by the listing; the metric says %v",
		times, len(born), listed, unseen)
	if float64(listed) != unseen || listed == 0 {
		t.Errorf("%d were found by the listing, the metric says %v", listed, unseen)
	}
	a.marksExactly(n.runc, n.crun, n.conmon, n.marked)
	a.eventually("with as few files as before", func() error {
		if now := a.files(); now > filesBefore {
			return fmt.Errorf("%d files are open, %d were before", now, filesBefore)
		}
		return nil
	})
	t.Logf("after %d replacements: as many marks and open files as before", times)
}

// TestMarksFollowWhatIsInstalledAndRemoved, in each of the ways in which that is done.
func TestMarksFollowWhatIsInstalledAndRemoved(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	old, current := filepath.Join(n.dir, "opt", "1"), filepath.Join(n.dir, "opt", "current")
	switched, later := filepath.Join(current, "bin", "runc"), filepath.Join(n.dir, "later", "bin", "runc")
	copyFile(t, n.runc, filepath.Join(old, "bin", "runc"))
	copyFile(t, n.runc, filepath.Join(n.dir, "opt", "2", "bin", "runc"))
	copyFile(t, n.runc, filepath.Join(n.dir, "spare"))
	copyFile(t, n.runc, n.runc+".dpkg-new")
	if err := os.Symlink("1", current); err != nil {
		t.Fatal(err)
	}
	a := n.startAgent("--deadline", "1s", "--runtime-path", switched+","+later)
	always := []string{n.crun, n.conmon, n.marked}
	for _, step := range []struct {
		name   string
		do     func() error
		made   string // the runtime that is new then
		marked []string
	}{
		{"at the beginning", func() error { return nil }, n.runc, []string{n.runc, switched}},
		{"replaced as dpkg does", func() error { // unpacked beside it, with the old one as a backup for as long
			return errors.Join(os.Link(n.runc, n.runc+".dpkg-tmp"), os.Rename(n.runc+".dpkg-new", n.runc), os.Remove(n.runc+".dpkg-tmp"))
		}, n.runc, []string{n.runc, switched}},
		{"a symlinked directory switched", func() error {
			return errors.Join(os.Symlink("2", current+".new"), os.Rename(current+".new", current))
		}, switched, []string{n.runc, switched}},
		{"installed where no directory was", func() error {
			return errors.Join(os.MkdirAll(filepath.Dir(later), 0o755), os.Rename(filepath.Join(n.dir, "spare"), later))
		}, later, []string{n.runc, switched, later}},
		{"its directory moved away", func() error {
			return os.Rename(filepath.Dir(later), filepath.Dir(later)+".old")
		}, "", []string{n.runc, switched}},
		{"and back", func() error {
			return os.Rename(filepath.Dir(later)+".old", filepath.Dir(later))
		}, later, []string{n.runc, switched, later}},
		{"removed", func() error { return os.Remove(later) }, "", []string{n.runc, switched}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		took := a.marksExactly(append(step.marked, always...)...)
		t.Logf("%s: the marks are right after %v", step.name, took.Round(time.Millisecond))
		if step.made == "" {
			continue
		}
		if c := n.madeBy(a, step.made); seenBy(&c) != v1alpha1.ReasonHook || c.Spec.Runtime.Path != step.made {
			t.Errorf("%s: a container of %s was seen by %s as one of %s", step.name, step.made, seenBy(&c), c.Spec.Runtime.Path)
		}
	}
}

// hostTree is a root for a host of its own: what is not in it the agent cannot mark, whatever else runs on the machine.
func (n *node) hostTree() string {
	n.t.Helper()
	tree := filepath.Join(n.dir, "host")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		n.t.Fatal(err)
	}
	up := strings.Repeat("../", strings.Count(tree, "/"))
	if err := os.Symlink(up+"proc", filepath.Join(tree, "proc")); err != nil {
		n.t.Fatal(err)
	}
	return tree
}

// linkInto makes a file known in the tree under the path that it has here.
func linkInto(t *testing.T, tree, name string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(tree+name), 0o755), os.Link(name, tree+name)); err != nil {
		t.Fatal(err)
	}
}

func TestRuntimesAreFoundWhereDistributionsKeepThem(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	tree := n.hostTree()
	links := map[string]string{"/bin": "usr/bin", "/usr/bin/crun": "/etc/alternatives/crun", "/etc/alternatives/crun": "/opt/real/crun",
		"/snap/microk8s/current": "42", "/run/current-system/sw/bin/crun": "/nix/store/abc/bin/crun"}
	found := map[string]string{ // path on the host: where the file is
		"/usr/bin/runc": "", "/usr/bin/crun": "/opt/real/crun", "/usr/sbin/docker-runc": "", "/usr/libexec/crio/conmon": "",
		"/var/lib/rancher/k3s/data/0123abc/bin/runc": "", "/snap/microk8s/current/bin/runc": "/snap/microk8s/42/bin/runc",
		"/run/current-system/sw/bin/crun": "/nix/store/abc/bin/crun", "/x86_64-bottlerocket-linux-gnu/sys-root/usr/bin/youki": "",
	}
	for name, file := range found {
		if file == "" {
			found[name] = name
		}
		copyFile(t, n.marked, tree+found[name])
	}
	for _, other := range []string{"/usr/bin/run", "/usr/bin/runc.distrib", "/usr/lib/runc", "/opt/runc"} {
		copyFile(t, n.marked, tree+other)
	}
	for name, target := range links {
		if err := errors.Join(os.MkdirAll(filepath.Dir(tree+name), 0o755), os.Symlink(target, tree+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(tree + found["/usr/bin/runc"]); err != nil { // a real one
		t.Fatal(err)
	}
	copyFile(t, n.runc, tree+found["/usr/bin/runc"])
	a := n.startAgent("--deadline", "1s", "--default-runtimes", "--host-root", filepath.Join(hostDir, tree))
	var files []string
	for _, file := range found {
		files = append(files, tree+file)
	}
	a.marksExactly(files...)
	if c := n.madeBy(a, tree+"/usr/bin/runc"); seenBy(&c) != v1alpha1.ReasonHook || c.Spec.Runtime.Path != "/usr/bin/runc" {
		t.Errorf("a container was seen by %s as one of %s", seenBy(&c), c.Spec.Runtime.Path)
	}
	// k3s unpacks another release beside the one that runs, and switches.
	next := tree + "/var/lib/rancher/k3s/data/4567def/bin/runc"
	copyFile(t, n.marked, next)
	t.Logf("%d runtimes marked; another release after %v", len(files), a.marksExactly(append(files, next)...).Round(time.Millisecond))
}

// TestRuntimesThatRunningMonitorsUseAreMarked: conmon names its runtime in its arguments, a containerd shim in a file of
// the bundle that it works in. Who is not root can say what he likes.
func TestRuntimesThatRunningMonitorsUseAreMarked(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	tree := n.hostTree()
	odd := func(name string) string {
		file := filepath.Join(n.dir, "odd", name)
		copyFile(t, n.crun, file)
		linkInto(t, tree, file)
		return file
	}
	ofConmon, ofShim, ofUser, ofNobody := odd("of-conmon"), odd("of-shim"), odd("of-user"), odd("of-nobody")
	linkInto(t, tree, n.conmon)

	id, bundle := n.bundle([]string{"sleep"}, nil)
	n.crun = ofConmon
	n.remove(n.crun, id)
	if out, err := bounded(limit, n.underConmon(n.crun, id, bundle, "the-name")); err != nil {
		t.Fatalf("conmon: %v\n%s", err, out)
	}
	n.pretend(tree, "containerd-shim-runc-v2", 0, map[string]string{"runtime": ofShim})
	n.pretend(tree, "conmon", 65534, nil, "-c", "x", "-n", "x", "-r", ofUser)
	n.pretend("", "conmon", 0, nil, "-c", "x", "-n", "x", "-r", ofNobody) // its binary is not in the host's root

	a := n.startAgent("--deadline", "1s", "--default-runtimes", "--host-root", filepath.Join(hostDir, tree))
	a.marksExactly(ofConmon, ofShim, n.conmon)
	for _, runtime := range []string{ofConmon, ofShim} {
		n.crun = runtime
		if c := n.madeBy(a, runtime); seenBy(&c) != v1alpha1.ReasonHook || c.Spec.Runtime.Path != runtime {
			t.Errorf("a container of %s was seen by %s as one of %s", runtime, seenBy(&c), c.Spec.Runtime.Path)
		}
	}
	n.crun = ofConmon // as its container is removed
}

// pretend starts a process that looks like a monitor, of a binary that tree knows, and works in a directory with files.
func (n *node) pretend(tree, name string, uid uint32, files map[string]string, args ...string) {
	n.t.Helper()
	dir, err := os.MkdirTemp(n.dir, "monitor-")
	if err != nil {
		n.t.Fatal(err)
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, name)
	copyFile(n.t, probeBinary, binary)
	if tree != "" {
		linkInto(n.t, tree, binary)
	}
	for above := dir; strings.HasPrefix(above, runDir); above = filepath.Dir(above) { // so that others may execute it
		if err := os.Chmod(above, 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, append([]string{"sleep"}, args...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := machine.Start(cmd); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
