package runtimes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
)

// watchTree makes a tree with runtimes behind every kind of way, and watches them.
func watchTree(t *testing.T) (dir string, w *watch) {
	t.Helper()
	dir = t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"usr/bin/runc": "1", "usr/bin/other": "1", "bin": "-> usr/bin", "opt/7/crun": "1", "opt/8/crun": "1",
		"opt/current": "-> 7", "sbin/crun": "-> /etc/alternatives/crun", "etc/alternatives/crun": "-> ../../opt/current/crun",
		"data/a1/bin/runc": "1", "loop": "-> loop", "tmp/runc": "1",
	})
	w, err := newWatch(hosttest.Open(t, hostfs.Open, dir), hostfs.NewReads())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	addAll(w)
	return dir, w
}

func addAll(w *watch) {
	w.begin()
	for _, name := range strings.Fields("/bin/runc /sbin/crun /data/*/bin /data/a1/bin/runc /later/bin/runc /loop/runc") {
		w.add(name)
	}
}

func TestWatchTellsOfWhatPutsAnotherFileBehindAPath(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"a rename over it": func(dir string) error { return os.Rename(dir+"/tmp/runc", dir+"/usr/bin/runc") },
		"its removal":      func(dir string) error { return os.Remove(dir + "/usr/bin/runc") },
		"its move":         func(dir string) error { return os.Rename(dir+"/usr/bin/runc", dir+"/tmp/x") },
		"its directory moved": func(dir string) error {
			return errors.Join(os.Rename(dir+"/usr/bin", dir+"/usr/old"), os.Rename(dir+"/opt/8", dir+"/usr/bin"))
		},
		"a symlink in the middle": func(dir string) error { return switchLink(dir+"/opt/current", "8") },
		"a symlink after another": func(dir string) error { return switchLink(dir+"/etc/alternatives/crun", "/usr/bin/other") },
		"what a chain ends in":    func(dir string) error { return os.Rename(dir+"/opt/8/crun", dir+"/opt/7/crun") },
		"a match of a pattern":    func(dir string) error { return os.Mkdir(dir+"/data/b2", 0o755) },
		"the first part of a way": func(dir string) error { return os.Mkdir(dir+"/later", 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, w := watchTree(t)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if changed, err := w.wait(5 * time.Second); !changed || err != nil {
				t.Errorf("changed %v, %v", changed, err)
			}
		})
	}
}

func TestWatchDoesNotTellOfAnythingElse(t *testing.T) {
	dir, w := watchTree(t)
	hosttest.MakeTree(t, dir, map[string]string{"usr/bin/unrelated": "1", "usr/lib/runc": "1", "opt/7/runc": "1", "new": "1"})
	if err := os.WriteFile(dir+"/usr/bin/runc", []byte("the same file"), 0o755); err != nil {
		t.Fatal(err)
	}
	if changed, err := w.wait(50 * time.Millisecond); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestWatchFollowsWhatComesLater(t *testing.T) {
	dir, w := watchTree(t)
	for _, made := range strings.Fields("later later/bin") {
		if err := os.Mkdir(filepath.Join(dir, made), 0o755); err != nil {
			t.Fatal(err)
		}
		if changed, err := w.wait(5 * time.Second); !changed || err != nil {
			t.Fatalf("%s: changed %v, %v", made, changed, err)
		}
		addAll(w)
	}
	hosttest.MakeTree(t, dir, map[string]string{"later/bin/runc": "1"})
	if changed, err := w.wait(5 * time.Second); !changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
}

// TestWatchKeepsNoDirectoryThatIsGone: directories come and go, under one pattern too.
func TestWatchKeepsNoDirectoryThatIsGone(t *testing.T) {
	dir, w := watchTree(t)
	before := len(w.names)
	for range 3 {
		hosttest.MakeTree(t, dir, map[string]string{"data/b2/bin/runc": "1"})
		addAll(w)
		w.add("/data/b2/bin/runc")
		if len(w.names) != before+2 {
			t.Fatalf("%d directories are watched, want %d", len(w.names), before+2)
		}
		if err := os.RemoveAll(dir + "/data/b2"); err != nil {
			t.Fatal(err)
		}
		for len(w.names) > before {
			if changed, err := w.wait(5 * time.Second); !changed || err != nil {
				t.Fatalf("%d directories are watched; changed %v, %v", len(w.names), changed, err)
			}
		}
	}
}

func TestWatchEndsWhenItIsClosed(t *testing.T) {
	_, w := watchTree(t)
	ended := make(chan error)
	go func() {
		_, err := w.wait(time.Minute)
		ended <- err
	}()
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a closed watch waited on")
	}
}

// TestWatchIsBlindWithoutInotify: it waits, and tells of nothing.
func TestWatchIsBlindWithoutInotify(t *testing.T) {
	dir := t.TempDir()
	w, err := newBlindWatch(hosttest.Open(t, hostfs.Open, dir), hostfs.NewReads())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	addAll(w)
	hosttest.MakeTree(t, dir, map[string]string{"later/bin/runc": "1"})
	if changed, err := w.wait(10 * time.Millisecond); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func switchLink(name, target string) error {
	return errors.Join(os.Symlink(target, name+".new"), os.Rename(name+".new", name))
}
