package tracker

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/internal/event"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// story is a tracker, and the world that it hears of. A second passes with each input.
type story struct {
	tracker  *Tracker
	now      time.Time
	serial   uint64                     // of the last create that is described at once; scripts number the others below
	runtimes map[int32]bool             // those that were held, so that exit knows whose end it tells
	state    map[Instance]event.Process // what the runtimes' state on disk says
	told     map[event.Key]event.State
}

func newStory() *story {
	return &story{now: epoch, serial: 1000, tracker: New(), runtimes: map[int32]bool{}, state: map[Instance]event.Process{},
		told: map[event.Key]event.State{}}
}

// parse reads a line of a script. Its words, where a PROCESS is PID, or PID@TICKS where it is not the first one with
// its pid, and every ID may be followed by root=DIRECTORY, and by rootless for a user's own:
//
//	create|run|restore pid=PROCESS id=ID [ns=host|none] [bundle=PATH] [problem=WORD] [detach] [late] [reading=N]
//	described N [ns=host]               the config.json that was being read, N of create
//	conmon id=ID name=NAME
//	fork runtime=PID init=PROCESS       something entered another PID namespace
//	exec PROCESS [child-of=PID]         of an init, or of a child of that runtime which turns out to be one
//	start id=ID init=PROCESS            as the runtime's state names it; 0 where that cannot be read
//	exit PROCESS status=N|signal=N [oom]
//	oom PID                             of something below that init
//	vanished PROCESS                    the sweep found it dead
//	state id=ID init=PROCESS            what the runtime's state names from here on, as a request's answer says
//	inventory [first] [at=SECONDS] ID=PROCESS[,dead][,waiting] …
//	recall                              prints what the tracker still keeps
func (s *story) parse(line string) (Input, error) {
	s.now = s.now.Add(time.Second)
	words := strings.Fields(line)
	w := wordsOf(words[1:])
	switch words[0] {
	case "create", "run", "restore":
		return s.created(Verb(words[0]), w)
	case "described":
		serial, err := strconv.ParseUint(w.first, 10, 64)
		return Described{serial, configOf(w)}, err
	case "conmon":
		return Named{w.option("id"), w.option("name"), w.uid()}, w.err
	case "fork":
		return Forked{At: s.now, Runtime: w.process("runtime").PID, Init: w.process("init")}, w.err
	case "exec":
		runtime := w.given["child-of"]
		return Execed{At: s.now, Runtime: pidOf(runtime).PID, Process: pidOf(w.first), IsChild: runtime != ""}, w.err
	case "start":
		return Starting{At: s.now, Of: w.instance(), Init: atStart(w.process("init"))}, w.err
	case "exit":
		return s.exited(w)
	case "oom":
		return OOMKilled{pidOf(w.first).PID}, w.err
	case "vanished":
		p := pidOf(w.first)
		return Vanished{s.now, p, s.runtimes[p.PID] || w.has("runtime")}, w.err
	case "state":
		s.state[w.instance()] = w.process("init")
		return nil, w.err
	case "inventory":
		return s.inventory(words[1:])
	case "recall":
		return recall{}, nil
	}
	return nil, errors.New("no such word")
}

// recall is no input: it asks what the tracker keeps.
type recall struct{ Input }

func (s *story) recall() string {
	t := s.tracker
	return fmt.Sprintf("%d containers, %d inits, %d runtimes, %d names", len(t.byID), len(t.byInit), len(t.byRuntime), len(t.names))
}

// atStart has what is read at start and was not known before.
func atStart(p event.Process) event.Process {
	if p.PID != 0 {
		p.CgroupID = 7
	}
	return p
}

func (s *story) created(v Verb, w *wordList) (Input, error) {
	in := Created{At: s.now, Runtime: w.process("pid"), Verb: v, ID: w.option("id"), Detach: w.has("detach"),
		By: event.Runtime{Name: "runc", Root: w.instance().Root}, UID: w.uid(), Late: w.has("late")}
	s.runtimes[in.Runtime.PID] = true
	if w.has("reading") {
		in.Serial, _ = strconv.ParseUint(w.given["reading"], 10, 64)
		return in, w.err
	}
	facts := configOf(w)
	if facts == nil {
		facts = &Facts{Bundle: w.given["bundle"], Problem: w.given["problem"]}
	}
	s.serial++
	in.Serial = s.serial
	return described{in, facts}, w.err
}

// described is a create whose config.json is read at once.
type described struct {
	Created
	facts *Facts
}

func (in described) apply(t *Tracker) {
	in.Created.apply(t)
	Described{Serial: in.Serial, Facts: in.facts}.apply(t)
}

// configOf is what the config.json of a create says of its PID namespace; nil where there is none.
func configOf(w *wordList) *Facts {
	switch w.given["ns"] {
	case "": // one of its own
		return &Facts{Bundle: w.given["bundle"], Spec: specOf(specs.MountNamespace, specs.PIDNamespace)}
	case "host":
		return &Facts{Bundle: w.given["bundle"], Spec: specOf(specs.MountNamespace)}
	}
	return nil
}

// specOf has namespaces of its own.
func specOf(types ...specs.LinuxNamespaceType) *specs.Spec {
	spec := &specs.Spec{Linux: &specs.Linux{}}
	for _, ns := range types {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	return spec
}

func (s *story) exited(w *wordList) (Input, error) {
	in := Exited{At: s.now, Process: pidOf(w.first), OOM: w.has("oom")}
	in.IsRuntime = s.runtimes[in.Process.PID]
	delete(s.runtimes, in.Process.PID)
	status, _ := strconv.Atoi(cmp.Or(w.given["status"], "0"))
	signal, _ := strconv.Atoi(cmp.Or(w.given["signal"], "0"))
	in.Code, in.Signal = int32(status), int32(signal)
	if signal != 0 {
		in.Code = 128 + in.Signal
	}
	return in, w.err
}

func (s *story) inventory(words []string) (Input, error) {
	in := Inventory{At: s.now}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "first":
			in.First = true
		case "at":
			seconds, err := strconv.Atoi(value)
			if err != nil {
				return nil, err
			}
			in.At = epoch.Add(time.Duration(seconds) * time.Second)
		default:
			pid, flags, _ := strings.Cut(value, ",")
			e := Entry{Instance: Instance{Root: "/run/runc", ID: key}, Init: pidOf(pid), Alive: !strings.Contains(flags, "dead"),
				Spec: &specs.Spec{}, At: s.now}
			e.Waiting = strings.Contains(flags, "waiting")
			in.Entries = append(in.Entries, e)
		}
	}
	return in, nil
}

// wordList is the rest of a line.
type wordList struct {
	first string
	given map[string]string
	err   error
}

func wordsOf(words []string) *wordList {
	w := &wordList{given: map[string]string{}}
	for i, word := range words {
		key, value, assigned := strings.Cut(word, "=")
		if i == 0 && !assigned {
			w.first = word
			continue
		}
		w.given[key] = value
	}
	return w
}

func (w *wordList) has(name string) bool { _, ok := w.given[name]; return ok }

func (w *wordList) option(name string) string {
	if !w.has(name) {
		w.err = fmt.Errorf("no %s", name)
	}
	return w.given[name]
}

func (w *wordList) process(name string) event.Process { return pidOf(w.option(name)) }

func (w *wordList) instance() Instance {
	return Instance{Root: cmp.Or(w.given["root"], "/run/runc"), ID: w.option("id"), UID: w.uid()}
}

// uid is whose container it is: root's, or the one user's that there is here.
func (w *wordList) uid() uint32 {
	if w.has("rootless") {
		return 1000
	}
	return 0
}

// pidOf reads PID or PID@TICKS: where no ticks are told, they are the pid.
func pidOf(word string) event.Process {
	number, at, marked := strings.Cut(word, "@")
	pid, _ := strconv.ParseInt(number, 10, 32)
	ticks := uint64(pid)
	if marked {
		ticks, _ = strconv.ParseUint(at, 10, 64)
	}
	return event.Process{PID: int32(pid), StartTicks: ticks}
}

// pidWord is pidOf backwards.
func pidWord(p event.Process) string {
	if p.StartTicks == uint64(p.PID) {
		return strconv.Itoa(int(p.PID))
	}
	return fmt.Sprintf("%d@%d", p.PID, p.StartTicks)
}
