// Package eventtest makes events for tests, of real config.json files: testdata/config/README.md says which engine wrote
// each of them.
package eventtest

import (
	"embed"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/event"
)

const BootID = "8f6c2a1e-5b0d-4f7a-9c3e-2d1b4a6f8e90"

// Epoch is when everything begins.
var Epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

//go:embed testdata/config/*.json
var configs embed.FS

// Config returns one of Configs, anew each time.
func Config(t testing.TB, name string) *specs.Spec {
	t.Helper()
	data, err := configs.ReadFile(path.Join("testdata/config", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		t.Fatalf("parse %q: %v", name, err)
	}
	return spec
}

// Configs returns the names of all config.json files.
func Configs(t testing.TB) []string {
	t.Helper()
	files, err := configs.ReadDir("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names
}

// Created is the first event of a container with a config.json, as the hook reports it.
func Created(name string, spec *specs.Spec) event.Event {
	id := idOf(name, spec)
	root := "/run/runc"
	if strings.HasPrefix(name, "containerd-cri") {
		root = "/run/containerd/runc/k8s.io"
	}
	return event.Event{Spec: spec, Container: event.Container{
		ID:      id,
		Runtime: event.Runtime{Name: "runc", Path: "/usr/sbin/runc", Root: root},
		Bundle:  "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id,
		Source:  event.FromHook,
		State:   event.Created,
		Init: event.Process{PID: 20954, StartTicks: 123456, CgroupID: 68719, Namespaces: event.Namespaces{
			Cgroup: 4026531835, IPC: 4026532455, Mount: 4026532459, Network: 4026532457, PID: 4026532460,
			User: 4026531837, UTS: 4026532454,
		}},
		CreateTime: Epoch,
	}}
}

// idOf returns the container ID with which an engine made a config.json: the last part of its cgroup.
func idOf(name string, spec *specs.Spec) string {
	if spec.Linux == nil {
		return name
	}
	if i := strings.LastIndexAny(spec.Linux.CgroupsPath, "/:"); i >= 0 {
		return strings.TrimPrefix(spec.Linux.CgroupsPath[i+1:], "libpod-")
	}
	return name
}

// Event returns the event that words describe:
//
//	ID STATE [config=NAME] [exit=N] …
//
// config is one of Configs; start and finish are seconds after Epoch.
func Event(t testing.TB, words string) event.Event {
	t.Helper()
	fields := strings.Fields(words)
	e := event.Event{Container: event.Container{
		ID: fields[0], State: event.State(fields[1]), Runtime: event.Runtime{Name: "runc"}, Source: event.FromHook,
		CreateTime: Epoch, Init: event.Process{StartTicks: 100},
	}}
	for _, word := range fields[2:] {
		key, value, _ := strings.Cut(word, "=")
		number := func() int64 {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatalf("%q: %v", word, err)
			}
			return n
		}
		at := func() time.Time { return Epoch.Add(time.Duration(number()) * time.Second) }
		switch key {
		case "config":
			e.Spec = Config(t, value)
		case "ticks":
			e.Init.StartTicks = uint64(number())
		case "pid":
			e.Init.PID = int32(number())
		case "net":
			e.Init.Namespaces.Network = uint32(number())
		case "start":
			e.StartTime = at()
		case "finish":
			e.FinishTime = at()
		case "exit":
			code := int32(number())
			e.ExitCode = &code
		case "signal":
			e.Signal = int32(number())
		case "reason":
			e.Reason = event.Reason(value)
		case "oom":
			e.OOMKilled = true
		case "listed":
			e.Source = event.FromListing
		case "problem":
			e.Problem = value
		default:
			t.Fatalf("word %q is unknown", word)
		}
	}
	return e
}
