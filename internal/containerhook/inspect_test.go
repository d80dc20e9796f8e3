package containerhook

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/hook"
)

// hookOn is a Hook with g as its gate, to which the file of held is a marked runtime. It has no BPF.
func hookOn(t *testing.T, g *gate, held *held) *Hook {
	t.Helper()
	h, err := New(Options{HostRoot: "/", Handler: func(hook.Event) {}, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(held.event.Fd), &st); err != nil {
		t.Fatal(err)
	}
	h.gate = g
	h.runtimes = &runtimes{marked: map[inode]executable{{uint64(st.Dev), st.Ino}: {name: "runc", path: "/usr/bin/runc"}}}
	return h
}

func TestTriageDecidesWhatNeedsNoWait(t *testing.T) {
	g, _ := socketGate(t)
	root := task{WhoTask: bpf.WhoTask{Tgid: 10}, argv: 1}
	user, foreign, noExec := root, root, root
	user.Euid, foreign.Tgid, noExec.argv = 1000, 0, 0
	for name, c := range map[string]struct {
		task     task
		err      error
		rootless bool
		closed   bool
		want     string
		relist   bool
	}{
		"root":                       {task: root, want: ""},
		"a user":                     {task: user, want: resultRootless},
		"a user who is asked for":    {task: user, rootless: true, want: ""},
		"another node's":             {task: foreign, want: resultForeign},
		"another node's user":        {task: foreign, rootless: true, want: resultForeign},
		"no execve":                  {task: noExec, want: resultOther},
		"killed meanwhile":           {task: root, err: errTaskGone, want: resultOther},
		"nobody knows who":           {err: errNoEvent, want: resultUnread, relist: true},
		"a file that cannot be read": {task: root, closed: true, want: resultUnread, relist: true},
	} {
		held := holding(t, g)
		h := hookOn(t, g, held)
		held.task, held.err, h.o.Rootless = c.task, c.err, c.rootless
		if c.closed {
			held.event.Fd = -1
		}
		by, got := h.triage(held)
		if got != c.want || got == "" && by.name != "runc" {
			t.Errorf("%s: %q by %q, want %q", name, got, by.name, c.want)
		}
		if relist := len(h.relist) > 0; relist != c.relist {
			t.Errorf("%s: a listing is wanted: %v", name, relist)
		}
	}
}

func TestTriageLetsGoWhatIsNotMarkedAnyMore(t *testing.T) {
	g, _ := socketGate(t)
	held := holding(t, g)
	h := hookOn(t, g, held)
	clear(h.runtimes.marked)
	held.task = task{WhoTask: bpf.WhoTask{Tgid: 10}, argv: 1}
	if _, got := h.triage(held); got != resultOther {
		t.Errorf("%q", got)
	}
}

// Without BPF dispatch panics; whoever is held must not feel that, nor may the agent.
func TestAPanicHoldsNobody(t *testing.T) {
	g, kernel := socketGate(t)
	held := holding(t, g)
	h := hookOn(t, g, held)
	held.task = task{WhoTask: bpf.WhoTask{Tgid: 10}, argv: 1}
	h.inspect(context.Background(), held)
	if got := answer(t, kernel); got.Fd != held.event.Fd || got.Response != unix.FAN_ALLOW {
		t.Errorf("answer %+v", got)
	}
	if why := <-h.relist; why != "panic" {
		t.Errorf("a listing is wanted for %q", why)
	}
	h.slots <- struct{}{} // given back
}

func TestACrowdIsLetGo(t *testing.T) {
	for name, uid := range map[string]uint32{"root's": 0, "a user's": 1000} {
		g, kernel := socketGate(t)
		held := holding(t, g)
		h := hookOn(t, g, held)
		h.o.Rootless = true
		held.task = task{WhoTask: bpf.WhoTask{Tgid: 10, Euid: uid}, argv: 1}
		slots := h.slots
		if uid != 0 {
			slots = h.users
		}
		for range cap(slots) {
			slots <- struct{}{}
		}
		h.inspect(context.Background(), held)
		if got := answer(t, kernel); got.Fd != held.event.Fd {
			t.Errorf("%s: answer %+v", name, got)
		}
		if n := testutil.ToFloat64(g.metrics.events.WithLabelValues(resultCrowded)); n != 1 || len(h.relist) != 1 {
			t.Errorf("%s: counted %v times, listings wanted: %d", name, n, len(h.relist))
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := Options{HostRoot: "/", Handler: func(hook.Event) {}}
	for name, spoil := range map[string]func(*Options){
		"nothing":                            func(*Options) {},
		"a relative root":                    func(o *Options) { o.HostRoot = "host" },
		"no handler":                         func(o *Options) { o.Handler = nil },
		"no metrics":                         func(o *Options) { o.Metrics = nil },
		"a negative deadline":                func(o *Options) { o.Deadline = -1 },
		"a deadline that is the heartbeat's": func(o *Options) { o.Deadline = beatDeadline },
		"a negative interval":                func(o *Options) { o.ListEvery = -1 },
	} {
		o := good
		o.Metrics = prometheus.NewRegistry()
		spoil(&o)
		if _, err := New(o); (err == nil) != (name == "nothing") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadyOnlyWhenListed(t *testing.T) {
	h := &Hook{}
	if h.Ready() == nil {
		t.Error("ready at once")
	}
	h.listed = epoch
	if err := h.Ready(); err != nil {
		t.Error(err)
	}
}
