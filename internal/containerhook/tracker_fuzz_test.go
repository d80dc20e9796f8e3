package containerhook

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/internal/hook"
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
			s.tracker.step(in)
			if err := consistent(s.tracker); err != nil {
				t.Fatalf("after %T %+v: %v", in, in, err)
			}
		}
	})
}

// any is an input of the few processes and IDs that make them meet often.
func (s *story) any(b [4]byte) input {
	process := func(b byte) hook.Process { return hook.Process{PID: int32(b & 3), StartTicks: 1 + uint64(b>>2&1)} }
	of := instance{root: "/run/runc", id: string(rune('a' + b[1]&1))}
	init, runtime := process(b[2]), process(b[3])
	init.PID += 10
	runtime.PID += 20
	switch b[0] % 14 {
	case 0, 1, 2:
		in := created{at: s.now, runtime: runtime, by: hook.Runtime{Root: of.root},
			command: command{verb: []verb{verbCreate, verbRun, verbRestore}[b[0]%14], id: of.id}, serial: uint64(b[0] >> 4)}
		if b[1]&2 != 0 {
			in.facts = parseFacts("runc", "", "", []byte(`{"linux":{}}`), nil)
		}
		return in
	case 3:
		s.state[of] = init
		return named{id: of.id, name: "web"}
	case 4, 5:
		return forked{at: s.now, runtime: runtime.PID, init: init}
	case 6:
		return execed{at: s.now, runtime: runtime.PID, process: init, isChild: b[1]&2 != 0}
	case 7:
		return starting{of: of, init: init}
	case 8:
		return exited{at: s.now, process: init, status: unix.WaitStatus(b[1]), oom: b[1]&2 != 0}
	case 9:
		return exited{at: s.now, process: runtime, status: unix.WaitStatus(int(b[1]) << 8), isRuntime: true}
	case 12:
		return described{uint64(b[0] >> 4), parseFacts("runc", "", "", []byte(`{"linux":{}}`), nil)}
	case 13:
		return resolved{at: s.now, of: of, init: s.state[of], waiting: b[1]&2 != 0}
	case 10:
		if b[1]&2 != 0 {
			return vanished{s.now, runtime, true}
		}
		return vanished{s.now, init, false}
	default:
		e := entry{instance: of, init: init, alive: b[3]&1 != 0, state: runtimeState{waiting: b[3]&2 != 0}}
		return inventory{at: s.now, entries: []entry{e}}
	}
}
