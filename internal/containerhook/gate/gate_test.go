package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/s3rj1k/go-fanotify/fanotify"
	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/bpf"
	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// long is longer than anything here takes, on a busy machine too.
const long = 30 * time.Second

// fakeNode is a gate whose group is a socket: the other end plays the kernel, which sends events and gets answers. The
// worker's end of a connection plays the worker.
type fakeNode struct {
	t      *testing.T
	gate   *Gate
	kernel *os.File
	worker *os.File // nil without one
	life   *os.File // the worker's end
	bell   int      // the worker's end
	binary int      // descriptor of the file that is executed, and marked
	task   task.Task
	err    error // of the lookup
	child  bool  // a runtime's
	ended  chan error
}

func newFakeNode(t *testing.T, o Options) *fakeNode {
	t.Helper()
	ends := socketpair(t)
	stats, page, err := newStats()
	if err != nil {
		t.Fatal(err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	waiter, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(waiter.add(wake), waiter.add(ends[0])); err != nil {
		t.Fatal(err)
	}
	if o.Deadline == 0 {
		o.Deadline = long
	}
	n := &fakeNode{t: t, kernel: os.NewFile(uintptr(ends[1]), "kernel"), ended: make(chan error, 1),
		task: task.Task{LookupTask: bpf.LookupTask{Tgid: 10}, Argv: 1}}
	n.gate = &Gate{o: o, stats: stats, page: page, wake: wake, waiter: waiter, peers: make(chan *peer, 1), hung: make(chan *peer, 1),
		marks: map[inode]*mark{}, held: newHeldQueue(), limit: maxHeld,
		group:    &group{fd: ends[0], notify: &fanotify.NotifyFD{Fd: ends[0], File: os.NewFile(uintptr(ends[0]), "group")}},
		ofEvent:  func(int, int) (task.Task, error) { return n.task, n.err },
		isReexec: func(uint32) bool { return n.child }}
	n.binary = int(n.eventFD())
	file, err := inodeOf(n.binary)
	if err != nil {
		t.Fatal(err)
	}
	n.gate.marks[file] = &mark{fd: -1, stale: true} // of a worker before
	t.Cleanup(func() {
		n.kernel.Close()
		n.gate.group.Close()
		waiter.Close()
		page.Close()
		unix.Close(wake)
		unix.Close(n.binary)
	})
	return n
}

// run starts the loop; it ends with the test.
func (n *fakeNode) run() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { n.ended <- n.gate.loop(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		n.gate.wakeUp()
		select {
		case err := <-n.ended:
			if err != nil {
				n.t.Errorf("the loop ended with %v", err)
			}
		case <-time.After(long):
			n.t.Error("the loop does not end")
		}
	})
}

// connect gives the gate a worker.
func (n *fakeNode) connect() {
	ends := socketpair(n.t)
	n.worker = os.NewFile(uintptr(ends[1]), "worker")
	n.t.Cleanup(func() { n.worker.Close() })
	var life [2]int
	if err := unix.Pipe2(life[:], unix.O_CLOEXEC); err != nil {
		n.t.Fatal(err)
	}
	n.life = os.NewFile(uintptr(life[1]), "life")
	n.t.Cleanup(func() { n.life.Close() })
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.bell, err = unix.Dup(bell); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { unix.Close(n.bell) })
	n.gate.peers <- &peer{fd: ends[0], life: life[0], bell: bell}
	n.gate.wakeUp()
	m := message{Kind: kindMark, Token: 1}
	if err := unix.Sendmsg(ends[1], m.bytes(), unix.UnixRights(n.binary), nil, 0); err != nil {
		n.t.Fatal(err)
	}
	if m = n.hears(kindMarked); m.Token != 1 || m.Errno != 0 {
		n.t.Fatalf("marked: %+v", m)
	}
}

func socketpair(t *testing.T) [2]int {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ends
}

// exec has the kernel hold an exec of the marked file, and returns the event's descriptor.
func (n *fakeNode) exec() int32 {
	n.t.Helper()
	fd, err := unix.Dup(n.binary)
	if err != nil {
		n.t.Fatal(err)
	}
	n.send(execPermission, int32(fd))
	return int32(fd)
}

func (n *fakeNode) eventFD() int32 {
	n.t.Helper()
	fd, err := unix.MemfdCreate("event", unix.MFD_CLOEXEC)
	if err != nil {
		n.t.Fatal(err)
	}
	return int32(fd) // the gate closes it
}

func (n *fakeNode) send(mask uint64, fd int32) {
	n.t.Helper()
	if err := binary.Write(n.kernel, binary.LittleEndian, unix.FanotifyEventMetadata{Event_len: 24,
		Vers: unix.FANOTIFY_METADATA_VERSION, Metadata_len: 24, Mask: mask, Fd: fd}); err != nil {
		n.t.Fatal(err)
	}
}

// answer waits for the answer to fd.
func (n *fakeNode) answer(fd int32) {
	n.t.Helper()
	if err := n.kernel.SetReadDeadline(time.Now().Add(long)); err != nil {
		n.t.Fatal(err)
	}
	var r unix.FanotifyResponse
	if err := binary.Read(n.kernel, binary.LittleEndian, &r); err != nil {
		n.t.Fatalf("no answer: %v", err)
	}
	if diff := cmp.Diff(unix.FanotifyResponse{Fd: fd, Response: unix.FAN_ALLOW}, r); diff != "" {
		n.t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// asked waits for the question that the worker gets next.
func (n *fakeNode) asked() message { n.t.Helper(); return n.hears(kindExec) }

// hears waits for the next message of that kind that the worker gets.
func (n *fakeNode) hears(k kind) message {
	n.t.Helper()
	if err := n.worker.SetReadDeadline(time.Now().Add(long)); err != nil {
		n.t.Fatal(err)
	}
	for {
		buffer := make([]byte, messageSize)
		if _, err := n.worker.Read(buffer); err != nil {
			n.t.Fatalf("the worker is not asked: %v", err)
		}
		m, err := decode(buffer)
		if err != nil {
			n.t.Fatal(err)
		}
		if m.Kind == k {
			return m
		}
	}
}

func (n *fakeNode) says(m message) {
	n.t.Helper()
	if _, err := n.worker.Write(m.bytes()); err != nil {
		n.t.Fatal(err)
	}
}

// counted waits until the gate has counted one result of that kind.
func (n *fakeNode) counted(r Result) {
	n.t.Helper()
	for deadline := time.Now().Add(long); n.gate.stats.Answered[r].Load() != 1; {
		if time.Now().After(deadline) {
			n.t.Fatalf("%s is counted %d times", r, n.gate.stats.Answered[r].Load())
		}
	}
}

func TestTheGateDecidesWhatNeedsNoFile(t *testing.T) {
	root := task.Task{LookupTask: bpf.LookupTask{Tgid: 10}, Argv: 1}
	user, foreign, noExec := root, root, root
	user.Euid, foreign.Tgid, noExec.Argv = 1000, 0, 0
	for name, c := range map[string]struct {
		task      task.Task
		err       error
		rootless  bool
		child     bool
		noMark    bool
		stale     bool
		connected bool
		want      Result
		decided   bool
	}{
		"root":                         {task: root, connected: true},
		"a user":                       {task: user, connected: true, want: Rootless, decided: true},
		"a user who is asked for":      {task: user, connected: true, rootless: true},
		"another node's":               {task: foreign, connected: true, want: OtherNode, decided: true},
		"another node's user":          {task: foreign, connected: true, rootless: true, want: OtherNode, decided: true},
		"no execve":                    {task: noExec, connected: true, want: Ignored, decided: true},
		"killed meanwhile":             {task: root, connected: true, err: task.ErrGone, want: Ignored, decided: true},
		"not known":                    {connected: true, err: task.ErrNoEvent, want: Error, decided: true},
		"a runtime's child":            {task: root, connected: true, child: true, want: Reexec, decided: true},
		"not marked any more":          {task: root, connected: true, noMark: true, want: Ignored, decided: true},
		"of a worker before":           {task: root, connected: true, stale: true, want: NoWorker, decided: true},
		"no worker":                    {task: root, want: NoWorker, decided: true},
		"no worker, a user":            {task: user, want: Rootless, decided: true},
		"no worker, a runtime's child": {task: root, child: true, want: Reexec, decided: true},
	} {
		n := newFakeNode(t, Options{Rootless: c.rootless})
		n.task, n.err, n.child = c.task, c.err, c.child
		file, err := inodeOf(n.binary)
		if err != nil {
			t.Fatal(err)
		}
		if n.gate.marks[file] = (&mark{fd: -1, token: 3, stale: c.stale}); c.noMark {
			delete(n.gate.marks, file)
		}
		if c.connected {
			n.gate.peer = &peer{fd: -1, life: -1}
		}
		var m message
		got, decided := n.gate.triage(int32(n.binary), &m)
		if decided != c.decided || decided && got != c.want || !decided && m.Token != 3 {
			t.Errorf("%s: %s, decided: %v, token %d; want %s, %v", name, got, decided, m.Token, c.want, c.decided)
		}
	}
}

func TestHeartbeatsAreAnsweredAndOverflowsCounted(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.send(unix.FAN_Q_OVERFLOW, unix.FAN_NOFD)
	fd := n.eventFD()
	n.send(unix.FAN_ACCESS_PERM, fd)
	n.answer(fd)
	if overflows := n.gate.stats.Overflows.Load(); overflows != 1 {
		t.Errorf("%d overflows are counted", overflows)
	}
	for r := range Results {
		if c := n.gate.stats.Answered[r].Load(); c != 0 {
			t.Errorf("the heartbeat is counted as %s", r)
		}
	}
}

func TestTheWorkerDecidesTheRest(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.connect()
	fd := n.exec()
	m := n.asked()
	if m.Token != 1 || m.Task.Tgid != 10 || m.Until-m.ReadAt != int64(long) {
		t.Errorf("asked %+v", m)
	}
	n.says(message{Kind: kindAllow, ID: m.ID, Result: Create})
	n.answer(fd)
	n.counted(Create)
	n.says(message{Kind: kindAllow, ID: m.ID, Result: Start}) // a second answer, and one to nothing
	n.says(message{Kind: kindAllow, ID: 4711, Result: Start})
	fd = n.exec()
	n.says(message{Kind: kindAllow, ID: n.asked().ID, Result: Delete})
	n.answer(fd)
	if c := n.gate.stats.Answered[Start].Load(); c != 0 {
		t.Errorf("answers to nothing are counted %d times", c)
	}
}

func TestTheDeadlineAnswersForAWorkerThatDoesNot(t *testing.T) {
	n := newFakeNode(t, Options{Deadline: 50 * time.Millisecond})
	n.run()
	n.connect()
	fd := n.exec()
	id := n.asked().ID
	n.answer(fd)
	n.counted(Timeout)

	// It has said nothing since: nobody waits for it.
	fd = n.exec()
	n.answer(fd)
	n.counted(NoWorker)

	// It speaks again, if only to say what comes too late: the loop reads that before the next event.
	n.says(message{Kind: kindAllow, ID: id, Result: Create})
	fd = n.exec()
	n.says(message{Kind: kindAllow, ID: n.asked().ID, Result: Create})
	n.answer(fd)
	if c := n.gate.stats.Answered[Timeout].Load(); c != 1 {
		t.Errorf("%d timeouts", c)
	}
}

// TestAWorkerThatIsSlowIsToldToReadOn: once for each nudgeAfter, and not after it has spoken.
func TestAWorkerThatIsSlowIsToldToReadOn(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.connect()
	fd := n.exec()
	m := n.asked()
	for range 2 {
		n.rings()
	}
	if c := time.Duration(monotonic() - m.ReadAt); c < 2*nudgeAfter {
		t.Errorf("it rang twice within %v", c)
	}
	n.says(message{Kind: kindAllow, ID: m.ID, Result: Create})
	n.answer(fd)

	var count [8]byte
	_, _ = unix.Read(n.bell, count[:]) // it may have rung before it was answered
	if ready, err := unix.Poll([]unix.PollFd{{Fd: int32(n.bell), Events: unix.POLLIN}}, 20); ready != 0 || err != nil {
		t.Errorf("it rang after the answer (%v)", err)
	}
}

// rings waits until the gate rings.
func (n *fakeNode) rings() {
	n.t.Helper()
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(n.bell), Events: unix.POLLIN}}, int(long/time.Millisecond))
	var count [8]byte
	if _, readErr := unix.Read(n.bell, count[:]); ready != 1 || readErr != nil {
		n.t.Fatalf("it does not ring: %v, %v", err, readErr)
	}
}

func TestWhatAWorkerHeldIsAllowedWhenItDies(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.connect()
	fd := n.exec()
	n.asked()
	n.worker.Close()
	n.answer(fd)
	n.counted(NoWorker)
	select {
	case <-n.gate.hung: // so that it is killed where it lives on
	case <-time.After(long):
		t.Error("nobody hears of it")
	}
	n.connect()
	fd = n.exec()
	n.says(message{Kind: kindAllow, ID: n.asked().ID, Result: Run})
	n.answer(fd)
}

// TestWhatAWorkerHeldIsAllowedWhenItIsKilledAndCannotEnd: a thread of it in the kernel keeps its end of the socket open.
func TestWhatAWorkerHeldIsAllowedWhenItIsKilledAndCannotEnd(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.connect()
	dead := n.worker
	fd := n.exec()
	n.asked()
	n.life.Close()
	n.answer(fd)
	n.counted(NoWorker)
	select {
	case <-n.gate.hung:
	case <-time.After(long):
		t.Error("nobody hears of it")
	}
	n.connect()
	fd = n.exec()
	n.says(message{Kind: kindAllow, ID: n.asked().ID, Result: Run})
	n.answer(fd)
	runtime.KeepAlive(dead)
}

// TestNothingIsHeldWhenTheGateEnds, its own heartbeat neither: the loop has ended, and nobody answers that any more.
func TestNothingIsHeldWhenTheGateEnds(t *testing.T) {
	n := newFakeNode(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.gate.loop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.kernel.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.kernel.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the group is open: %v", err)
	}
}

func TestAWorkerThatSaysNonsenseIsDropped(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.run()
	n.connect()
	fd := n.exec()
	n.asked()
	if _, err := n.worker.Write([]byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	n.answer(fd)
	n.counted(NoWorker)
}

func TestUsersDoNotCrowdRootOut(t *testing.T) {
	n := newFakeNode(t, Options{Rootless: true})
	n.gate.peer = &peer{fd: -1, life: -1}
	fd := int32(n.binary)
	for _, m := range n.gate.marks { // there is one
		m.stale = false
	}
	for range maxUsers {
		n.gate.held.add(held{user: true})
	}
	n.task.Euid = 1000
	if r, decided := n.gate.triage(fd, new(message)); !decided || r != OverLimit {
		t.Errorf("one user more: %s, %v", r, decided)
	}
	n.task.Euid = 0
	if r, decided := n.gate.triage(fd, new(message)); decided {
		t.Errorf("root: %s", r)
	}
	for range maxHeld - maxUsers {
		n.gate.held.add(held{})
	}
	if r, decided := n.gate.triage(fd, new(message)); !decided || r != OverLimit {
		t.Errorf("one of root's more: %s, %v", r, decided)
	}
}

func TestTheLoopEndsWhereTheGroupFails(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.kernel.Close()
	if err := n.gate.loop(context.Background()); err == nil {
		t.Error("it ended without an error")
	}
}

func TestAMarkWithoutAHookIsRefused(t *testing.T) {
	n := newFakeNode(t, Options{})
	n.gate.hookErr = errors.New("no BTF")
	fd := n.eventFD()
	if err := n.gate.mark(int(fd), 1); !errors.Is(err, unix.ENODEV) {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("its descriptor is still open")
	}
}
