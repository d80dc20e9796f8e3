package gate

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/task"
)

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	sent := message{Kind: kindExec, Token: 7, ID: 1 << 40, ReadAt: 5, Until: 6,
		Task: task.Task{LookupTask: bpf.LookupTask{Tgid: 10, Euid: 1000, StartBoottime: 1 << 50}, Argv: 1 << 60, GlobalTID: 11}}
	got, err := decode(sent.bytes())
	if diff := cmp.Diff(sent, got, cmp.AllowUnexported(message{})); diff != "" || err != nil {
		t.Errorf("%v (-sent +got):\n%s", err, diff)
	}
}

func TestDecodeRefusesWhatNoWorkerSends(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":           func([]byte) []byte { return nil },
		"cut off":           func(b []byte) []byte { return b[:len(b)-1] },
		"too long":          func(b []byte) []byte { return append(b, 0) },
		"another version":   func(b []byte) []byte { b[0]++; return b },
		"no kind":           func(b []byte) []byte { b[2], b[3] = 0, 0; return b },
		"an unknown kind":   func(b []byte) []byte { b[2], b[3] = byte(kinds), 0; return b },
		"an unknown result": func(b []byte) []byte { b[4] = byte(Results); return b },
	} {
		m := message{Kind: kindAllow, ID: 1}
		if got, err := decode(spoil(append([]byte(nil), m.bytes()...))); !errors.Is(err, errMessage) || got.ID != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&message{Kind: kindAllow, ID: 1, Result: Create}).bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Fatalf("%v", err)
			}
			return
		}
		if m.Result.String() == "" || m.Kind == 0 || m.Kind >= kinds {
			t.Fatalf("%+v", m)
		}
	})
}

func TestEachResultHasItsOwnLabel(t *testing.T) {
	seen := map[string]bool{}
	for r := range Results {
		if r.String() == "" || seen[r.String()] {
			t.Errorf("result %d is %q", r, r)
		}
		seen[r.String()] = true
	}
}
