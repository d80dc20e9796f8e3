package tracker

import (
	"testing"

	"github.com/containerhook/containerhook/internal/event"
)

// Whatever comes in whatever order, also what no kernel would tell: somebody waits for the end of each container.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 5, 1, 0, 9, 6, 0, 0, 0, 8, 1, 0, 0}) // create, fork, exec, exit
	f.Add([]byte{0, 0, 0, 0, 12, 5, 0, 9, 3, 1, 0, 0, 9, 3, 2, 0})
	f.Add([]byte{10, 1, 2, 3, 0, 0, 0, 0, 5, 0, 0, 1, 7, 0, 0, 0, 11, 1, 1, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := newStory()
		for ; len(script) >= 4; script = script[4:] {
			s.now = s.now.Add(1)
			in := s.any([4]byte(script))
			s.tracker.Step(in)
			if err := consistent(s.tracker); err != nil {
				t.Fatalf("after %T %+v: %v", in, in, err)
			}
		}
	})
}

// any is an input of the few processes and IDs that make them meet often.
func (s *story) any(b [4]byte) Input {
	process := func(b byte) event.Process { return event.Process{PID: int32(b & 3), StartTicks: 1 + uint64(b>>2&1)} }
	of := Instance{Root: "/run/runc", ID: string(rune('a' + b[1]&1))}
	init, runtime := process(b[2]), process(b[3])
	init.PID += 10
	runtime.PID += 20
	switch b[0] % 14 {
	case 0, 1, 2:
		in := Created{At: s.now, Runtime: runtime, By: event.Runtime{Root: of.Root},
			Verb: []Verb{Create, Run, Restore}[b[0]%14], ID: of.ID, Serial: uint64(b[0] >> 4)}
		if b[1]&2 != 0 {
			return described{in, &Facts{Spec: specOf()}}
		}
		return in
	case 3:
		s.state[of] = init
		return Named{ID: of.ID, Name: "web"}
	case 4, 5:
		return Forked{At: s.now, Runtime: runtime.PID, Init: init}
	case 6:
		return Execed{At: s.now, Runtime: runtime.PID, Process: init, IsChild: b[1]&2 != 0}
	case 7:
		return Starting{Of: of, Init: init}
	case 8:
		return Exited{At: s.now, Process: init, Code: int32(b[1]), Signal: int32(b[1] >> 6), OOM: b[1]&2 != 0}
	case 9:
		return Exited{At: s.now, Process: runtime, Code: int32(b[1]), IsRuntime: true}
	case 12:
		return Described{uint64(b[0] >> 4), &Facts{Spec: specOf()}}
	case 13:
		return Resolved{At: s.now, Of: of, Init: s.state[of], Waiting: b[1]&2 != 0}
	case 10:
		if b[1]&2 != 0 {
			return Vanished{s.now, runtime, true}
		}
		return Vanished{s.now, init, false}
	default:
		e := Entry{Instance: of, Init: init, Alive: b[3]&1 != 0, Waiting: b[3]&2 != 0}
		return Inventory{At: s.now, Entries: []Entry{e}}
	}
}
