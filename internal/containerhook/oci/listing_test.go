package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
)

// collect runs a listing to its end.
func collect(t *testing.T, dir string, patterns ...string) (found []Listed, errs []error) {
	t.Helper()
	for c, err := range List(hosttest.Open(t, hostfs.Open, dir), patterns, hostfs.NewReads()) {
		if err != nil {
			errs = append(errs, err)
		} else {
			found = append(found, c)
		}
	}
	return found, errs
}

func names(found []Listed) (names []string) {
	for _, c := range found {
		names = append(names, path.Join(c.Root, c.ID))
	}
	slices.Sort(names)
	return names
}

func TestListFindsWhatTheRuntimesKeep(t *testing.T) {
	dir := t.TempDir()
	runc, crun := readTestdata(t, "state/runc-1.1.5.json"), readTestdata(t, "state/crun-1.8.1.json")
	hosttest.MakeTree(t, dir, map[string]string{
		"run/runc/a/state.json":                                 runc,
		"run/containerd/runc/k8s.io/b/state.json":               runc,
		"run/containerd/runc/default/b/status":                  crun,
		"run/host-containerd/runc/default/admin/state.json":     runc,
		"run/docker/runtime-runc/moby/c/state.json":             runc,
		"run/docker/runtime-runc-fit/plugins.moby/d/state.json": runc,
		"run/crun/e/status":                                     crun,
		"run/crun/.empty-directory":                             "/",
		"run/youki/f/state.json":                                `{"pid":1,"status":"running"}`,
		"run/user/1000/crun/rootless/status":                    crun,
		"run/elsewhere/runc/x/state.json":                       runc,
		"var/run":                                               "-> /run",
	})
	found, errs := collect(t, dir, defaultStateRoots...)
	if len(errs) > 0 {
		t.Error(errs)
	}
	want := words(`/run/containerd/runc/default/b /run/containerd/runc/k8s.io/b /run/crun/e /run/docker/runtime-runc/moby/c
		/run/docker/runtime-runc-fit/plugins.moby/d /run/host-containerd/runc/default/admin /run/runc/a /run/youki/f`)
	slices.Sort(want)
	if diff := cmp.Diff(want, names(found)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	found, errs = collect(t, dir, rootlessStateRoots...)
	if diff := cmp.Diff([]string{"/run/user/1000/crun/rootless"}, names(found)); diff != "" || len(errs) > 0 {
		t.Errorf("rootless, %v (-want +got):\n%s", errs, diff)
	}
}

func TestListTellsAllOfAContainer(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"run/crun/copy/status":           readTestdata(t, "state/crun-1.8.1.json"),
		"run/crun/copy/config.json":      "the copy",
		"run/crun/copy/exec.fifo":        "|",
		"run/crun/no-copy/status":        readTestdata(t, "state/crun-1.8.1.json"),
		"tmp/capture/cb/config.json":     "crun's bundle",
		"run/runc/c1/state.json":         readTestdata(t, "state/runc-1.1.5.json"),
		"run/runc/c1/config.json":        "not runc's",
		"tmp/capture/bundle/config.json": "runc's bundle",
		"run/runc/relative/state.json":   `{"init_process_pid":1,"config":{"labels":["bundle=tmp/capture/bundle"]}}`,
		"run/runc/no-bundle/state.json":  `{"init_process_pid":1,"config":{"labels":["bundle=/gone"]}}`,
		"run/runc/not-a-file/state.json": `{"init_process_pid":1,"config":{"labels":["bundle=/fifo"]}}`,
		"fifo/config.json":               "|",
		"run/runc/too-large/state.json":  `{"init_process_pid":1,"config":{"labels":["bundle=/large"]}}`,
		"large/config.json":              strings.Repeat("x", MaxConfig+1),
	})
	found, errs := collect(t, dir, "/run/crun", "/run/runc")
	if len(errs) > 0 {
		t.Error(errs)
	}
	want := map[string]struct {
		config string
		err    error
	}{
		"copy": {"the copy", nil}, "no-copy": {"crun's bundle", nil}, "c1": {"runc's bundle", nil},
		"relative": {"", fs.ErrNotExist}, "no-bundle": {"", fs.ErrNotExist}, "not-a-file": {"", hostfs.ErrNotRegular},
		"too-large": {"", hostfs.ErrTooLarge},
	}
	if len(found) != len(want) {
		t.Errorf("found %v", names(found))
	}
	for _, c := range found {
		w, ok := want[c.ID]
		if !ok || string(c.Config) != w.config || !errors.Is(c.ConfigErr, w.err) || (c.ConfigErr == nil) != (w.err == nil) {
			t.Errorf("%s: %.40q, %v; want %q, %v", c.ID, c.Config, c.ConfigErr, w.config, w.err)
		}
		if c.State.UID != uint32(os.Getuid()) || c.State.Waiting != (c.ID == "copy") {
			t.Errorf("%s: %+v", c.ID, c.State)
		}
	}
}

func TestListGoesOnAfterABadEntry(t *testing.T) {
	dir := t.TempDir()
	state := readTestdata(t, "state/runc-1.1.5.json")
	hosttest.MakeTree(t, dir, map[string]string{
		"run/runc/a/state.json": "secret", "run/runc/b b/state.json": state, "run/runc/c/state.json": "|",
		"run/runc/d/state.json": "-> /etc/shadow", "etc/shadow": "secret", "run/runc/e\n/state.json": state,
		"run/runc/f": "a file", "run/runc/g": "-> g", "run/runc/h": "/", "run/runc/z/state.json": state,
		"run/crun": "a file", "run/youki/x/state.json": `{"pid":1}`,
	})
	found, errs := collect(t, dir, "/run/runc", "/run/[", "/run/crun", "/run/none", "/run/youki")
	if diff := cmp.Diff([]string{"/run/runc/z", "/run/youki/x"}, names(found)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	bad := errors.Join(errs...)
	for _, want := range []error{ErrNotJSON, ErrBadID, hostfs.ErrNotRegular, path.ErrBadPattern} {
		if !errors.Is(bad, want) {
			t.Errorf("%v is missing in: %v", want, bad)
		}
	}
	if len(errs) != 6 { // a, b b, c, e, g, [
		t.Errorf("%d errors: %v", len(errs), bad)
	}
	if strings.Contains(bad.Error(), "secret") {
		t.Errorf("the errors quote a file: %v", bad)
	}
}

func TestListYieldsADirectoryOnce(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"run/docker/runtime-runc/moby/c/state.json": readTestdata(t, "state/runc-1.1.5.json"), "var/run": "-> ../run",
		"link": "-> /run/docker/runtime-runc/moby",
	})
	found, errs := collect(t, dir, "/run/docker/runtime-*/*", "/var/run/docker/runtime-runc/moby", "/link",
		"/run/docker/*/moby/")
	if diff := cmp.Diff([]string{"/run/docker/runtime-runc/moby/c"}, names(found)); diff != "" || len(errs) > 0 {
		t.Errorf("%v (-want +got):\n%s", errs, diff)
	}
}

func TestListStopsWhenItsReaderDoes(t *testing.T) {
	dir := t.TempDir()
	for _, id := range words("a b c") {
		hosttest.MakeTree(t, dir, map[string]string{"run/runc/" + id + "/state.json": readTestdata(t, "state/runc-1.1.5.json")})
	}
	seen := 0
	for c, err := range List(hosttest.Open(t, hostfs.Open, dir), []string{"/run/runc", "/run/["}, hostfs.NewReads()) {
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("saw %d", seen)
	}
}

func TestListIsBounded(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"a/state.json": `{"init_process_pid":1}`, "run/one": "/", "run/two/b/state.json": `{"init_process_pid":2}`,
	})
	for i := range maxListed + 1 {
		if err := os.Symlink("/a", fmt.Sprintf("%s/run/one/%d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(wantFound, wantErrs int) {
		t.Helper()
		found, errs := collect(t, dir, "/run/one", "/run/two")
		if len(found) != wantFound || len(errs) != wantErrs || !errors.Is(errs[0], hostfs.ErrTooMany) {
			t.Errorf("found %d containers, errors %v; want %d, %d", len(found), errs, wantFound, wantErrs)
		}
	}
	count(maxListed, 2) // names in one, containers in all
	if err := os.Remove(dir + "/a/state.json"); err != nil {
		t.Fatal(err)
	}
	count(1, 1) // the one behind the directory that is too full
}
