package agent

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/hook"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

const (
	testBootID = "8f6c2a1e-5b0d-4f7a-9c3e-2d1b4a6f8e90"
	testDigest = "sha256:1780b5a5496189974b94eb2595d86731d7a0820e4beb8ea770974298a943ed55"
)

var testEpoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func testOptions() Options {
	return Options{NodeName: "node-1", BootID: testBootID, Now: func() time.Time { return testEpoch }}
}

// config returns a config.json of testdata/config.
func config(t testing.TB, name string) *specs.Spec {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "config", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		t.Fatalf("parse %q: %v", name, err)
	}
	return spec
}

// configs returns the names of all config.json files of testdata/config.
func configs(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "config", "*.json"))
	if err != nil || len(paths) < 15 {
		t.Fatalf("found %d files in testdata/config: %v", len(paths), err)
	}
	for i, p := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(p), ".json")
	}
	return paths
}

// idOf returns the container ID with which an engine made a config.json: the last part of its cgroup.
func idOf(name string, spec *specs.Spec) string {
	path := spec.Linux.CgroupsPath
	if i := strings.LastIndexAny(path, "/:"); i >= 0 {
		return strings.TrimPrefix(path[i+1:], "libpod-")
	}
	return name
}

// created is the first event of a container as the hook tells it.
func created(name string, spec *specs.Spec) hook.Event {
	id := idOf(name, spec)
	root := "/run/runc"
	if strings.HasPrefix(name, "containerd-cri") {
		root = "/run/containerd/runc/k8s.io"
	}
	return hook.Event{Spec: spec, Container: hook.Container{
		ID:           id,
		Runtime:      hook.Runtime{Name: "runc", Path: "/usr/sbin/runc", Root: root},
		Bundle:       "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id,
		ConfigDigest: testDigest,
		Source:       hook.FromHook,
		State:        hook.Created,
		Init: hook.Process{PID: 20954, StartTicks: 123456, CgroupID: 68719, Namespaces: hook.Namespaces{
			Cgroup: 4026531835, IPC: 4026532455, Mount: 4026532459, Network: 4026532457, PID: 4026532460,
			User: 4026531837, UTS: 4026532454,
		}},
		CreateTime: testEpoch,
	}}
}

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}
