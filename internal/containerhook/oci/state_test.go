package oci

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/internal/containerhook/hostfs"
	"github.com/containerhook/containerhook/internal/containerhook/hosttest"
)

var compareStates = cmp.AllowUnexported(State{}, Listed{})

// What the files in testdata/state say.
var (
	runcState = State{Runtime: "runc", PID: 26007, StartTicks: 165109, Bundle: "/tmp/capture/bundle",
		Created: time.Date(2026, 11, 24, 3, 50, 20, 32631422, time.UTC)}
	crunState = State{Runtime: "crun", PID: 26186, StartTicks: 165154, Bundle: "/tmp/capture/cb",
		Created: time.Date(2026, 11, 24, 3, 50, 20, 495916000, time.UTC)}
)

func readTestdata(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestParseStateReadsEveryRuntimes(t *testing.T) {
	const youki = `{"ociVersion":"v1.0.2","id":"c1","status":"STATUS","pid":4711,"bundle":"/b","annotations":{},
		"created":"2026-11-24T03:50:20.5Z","creator":0,"useSystemd":false,"cleanUpIntelRdtSubdirectory":false}`
	youkiState := State{Runtime: "youki", PID: 4711, Bundle: "/b",
		Created: time.Date(2026, 11, 24, 3, 50, 20, 5e8, time.UTC)}
	youkiCreated := youkiState
	youkiCreated.Waiting = true
	for name, test := range map[string]struct {
		raw  string
		want State
	}{
		"runc":           {readTestdata(t, "state/runc-1.1.5.json"), runcState},
		"crun":           {readTestdata(t, "state/crun-1.8.1.json"), crunState},
		"youki, created": {strings.Replace(youki, "STATUS", "created", 1), youkiCreated},
		"youki, running": {strings.Replace(youki, "STATUS", "running", 1), youkiState},
		"a time that is none": {
			`{"pid":1,"process-start-time":2,"created":"yesterday"}`, State{Runtime: "crun", PID: 1, StartTicks: 2},
		},
	} {
		got, err := parseState([]byte(test.raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got, compareStates); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseStateRejectsWhatIsNoState(t *testing.T) {
	for raw, want := range map[string]error{
		"":                                    ErrNotJSON,
		"secret":                              ErrNotJSON,
		`{"init_process_pid":1} x`:            ErrNotJSON,
		strings.Repeat("[", 1<<20):            ErrNotJSON,
		"{}":                                  errNoInit,
		"null":                                errNoInit,
		`{"init_process_pid":0}`:              errNoInit,
		`{"init_process_pid":-1}`:             errNoInit,
		`{"init_process_pid":2147483648}`:     errNoInit,
		`{"pid":0,"process-start-time":0}`:    errNoInit,
		`{"status":"creating","bundle":"/b"}`: errNoInit,
		`{"init_process_pid":"secret"}`:       nil, // any error
		`{"init_process_pid":99999999999999999999}`: nil,
	} {
		got, err := parseState([]byte(raw))
		if got != (State{}) || err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("parseState(%.40q) = %+v, %v; want %v", raw, got, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "999")) {
			t.Errorf("the error %q quotes the file", err)
		}
	}
}

func TestReadStateSaysWhetherStartIsOutstanding(t *testing.T) {
	dir := t.TempDir()
	hosttest.MakeTree(t, dir, map[string]string{
		"run/runc/waiting/state.json": readTestdata(t, "state/runc-1.1.5.json"), "run/runc/waiting/exec.fifo": "|",
		"run/runc/running/state.json": readTestdata(t, "state/runc-1.1.5.json"),
		"run/crun/waiting/status":     readTestdata(t, "state/crun-1.8.1.json"), "run/crun/waiting/exec.fifo": "|",
		"run/crun/running/status": readTestdata(t, "state/crun-1.8.1.json"),
		"var/run":                 "-> /run",
	})
	host := hosttest.Open(t, hostfs.Open, dir)
	for _, test := range []struct {
		root, id string
		want     State
		waiting  bool
	}{
		{"/run/runc", "waiting", runcState, true}, {"/run/runc", "running", runcState, false},
		{"/run/crun", "waiting", crunState, true}, {"/var/run/crun/", "running", crunState, false},
	} {
		test.want.Waiting, test.want.UID = test.waiting, uint32(os.Getuid())
		got, err := ReadState(host, test.root, test.id)
		if err != nil {
			t.Errorf("%s/%s: %v", test.root, test.id, err)
		}
		if diff := cmp.Diff(test.want, got, compareStates); diff != "" {
			t.Errorf("%s/%s (-want +got):\n%s", test.root, test.id, diff)
		}
	}
}

func TestReadStateDoesNotTakeWhatIsNotTheContainers(t *testing.T) {
	dir := t.TempDir()
	state := readTestdata(t, "state/runc-1.1.5.json")
	hosttest.MakeTree(t, dir, map[string]string{
		"secret.json": state, "r/empty": "/", "r/file": "x", "r/abs/state.json": "-> /secret.json",
		"r/up/state.json": "-> ../../secret.json", "r/fifo/state.json": "|", "r/dir/state.json": "/",
		"r/other/state.json": "x",
		"r/large/state.json": "", "r/ahead/status": state, "r/ahead/state.json": "{}",
	})
	if err := os.Truncate(dir+"/r/large/state.json", maxState+1); err != nil {
		t.Fatal(err)
	}
	host := hosttest.Open(t, hostfs.Open, dir)
	for id, want := range map[string]error{
		"none": fs.ErrNotExist, "empty": fs.ErrNotExist, "abs": fs.ErrNotExist, "up": fs.ErrNotExist,
		"fifo": hostfs.ErrNotRegular, "dir": hostfs.ErrNotRegular, "other": ErrNotJSON, "large": hostfs.ErrTooLarge, "ahead": errNoInit,
	} {
		if got, err := ReadState(host, "/r", id); got != (State{}) || !errors.Is(err, want) {
			t.Errorf("readState(%q) = %+v, %v; want %v", id, got, err, want)
		}
	}
	if got, err := ReadState(host, "/r", "file"); !hostfs.IsAbsent(err) {
		t.Errorf("readState of a file = %+v, %v; want it absent", got, err)
	}
}

func TestDefaultStateRootGoesByTheBinary(t *testing.T) {
	for binary, want := range map[string]string{
		"/usr/bin/runc": "/run/runc", "/usr/bin/crun": "/run/crun", "krun": "/run/crun", "/opt/crun-1.20": "/run/crun",
		"/x/youki": "/run/youki", "runsc": "/run/runsc", "/crun/nvidia-container-runtime": "/run/runc",
	} {
		if got := DefaultStateRoot(binary); got != want {
			t.Errorf("defaultStateRoot(%q) = %q, want %q", binary, got, want)
		}
	}
}

func FuzzParseState(f *testing.F) {
	addFiles(f, "testdata/state/*.json")
	for _, raw := range []string{"", "{}", `{"pid":1}`, `{"init_process_pid":1,"config":{"labels":["bundle="]}}`, "[[["} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseState(raw)
		if err != nil && s != (State{}) || err == nil && (s.PID <= 0 || s.Runtime == "") {
			t.Fatalf("parseState(%q) = %+v, %v", raw, s, err)
		}
	})
}
