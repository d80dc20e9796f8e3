package containerhook

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
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/s3rj1k/go-fanotify/fanotify"
	"golang.org/x/sys/unix"
)

// socketGate is a gate whose group is a socket. The other end of it plays the kernel: it sends events, and gets answers.
func socketGate(t *testing.T) (g *gate, kernel *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, kernel := os.NewFile(uintptr(ends[0]), "group"), os.NewFile(uintptr(ends[1]), "kernel")
	t.Cleanup(func() { ours.Close(); kernel.Close() })
	conn, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return &gate{deadline: time.Second, lastFD: 1 << 20, metrics: newMetrics(prometheus.NewRegistry()), conn: conn,
		group: &fanotify.NotifyFD{Fd: ends[0], File: ours}}, kernel
}

// eventFD is a descriptor as an event brings one.
func eventFD(t *testing.T) int32 {
	t.Helper()
	fd, err := unix.MemfdCreate("event", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) }) // where the gate has done so: not ours any more, but nothing else runs meanwhile
	return int32(fd)
}

// send has the kernel tell of something.
func send(t *testing.T, kernel *os.File, mask uint64, fd int32) {
	t.Helper()
	if err := binary.Write(kernel, binary.LittleEndian, unix.FanotifyEventMetadata{Event_len: 24,
		Vers: unix.FANOTIFY_METADATA_VERSION, Metadata_len: 24, Mask: mask, Fd: fd}); err != nil {
		t.Fatal(err)
	}
}

// answer waits for one.
func answer(t *testing.T, kernel *os.File) unix.FanotifyResponse {
	t.Helper()
	if err := kernel.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	var r unix.FanotifyResponse
	if err := binary.Read(kernel, binary.LittleEndian, &r); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return r
}

func isOpen(fd int32) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestHeartbeatsAreAnsweredAndOverflowsTold(t *testing.T) {
	g, kernel := socketGate(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	lost := 0
	go func() { ended <- g.run(ctx, func(*held) { t.Error("a heartbeat was inspected") }, func() { lost++ }) }()

	send(t, kernel, unix.FAN_Q_OVERFLOW, unix.FAN_NOFD)
	fd := eventFD(t)
	send(t, kernel, unix.FAN_OPEN_PERM, fd)
	if diff := cmp.Diff(unix.FanotifyResponse{Fd: fd, Response: unix.FAN_ALLOW}, answer(t, kernel)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if isOpen(fd) {
		t.Error("the event's descriptor is still open")
	}
	if lost != 1 {
		t.Errorf("%v overflows were told", lost)
	}
	if n := testutil.CollectAndCount(g.metrics.events); n != 0 {
		t.Errorf("heartbeats are counted as %d results", n)
	}
	if _, err := kernel.Read(make([]byte, 8)); !errors.Is(err, io.EOF) {
		t.Errorf("the group is still open: %v", err)
	}
}

func TestGateAnswersAndEndsWhenDescriptorsRunOut(t *testing.T) {
	g, kernel := socketGate(t)
	fd := eventFD(t)
	g.lastFD = fd - 1
	ended := make(chan error)
	go func() { ended <- g.run(context.Background(), func(*held) {}, nil) }()
	send(t, kernel, unix.FAN_OPEN_PERM, fd)
	if got := answer(t, kernel); got.Fd != fd {
		t.Errorf("answered %d, not %d", got.Fd, fd)
	}
	if err := <-ended; !errors.Is(err, errDescriptors) {
		t.Errorf("run: %v", err)
	}
	if _, err := kernel.Read(make([]byte, 8)); !errors.Is(err, io.EOF) {
		t.Errorf("the group is still open: %v", err)
	}
}

func TestGateEndsWhereTheGroupFails(t *testing.T) {
	g, kernel := socketGate(t)
	kernel.Close()
	if err := g.run(context.Background(), func(*held) {}, nil); err == nil {
		t.Error("run ended without an error")
	}
}

// holding is an exec that g holds.
func holding(t *testing.T, g *gate) *held {
	h := &held{gate: g, since: time.Now(), event: &fanotify.EventMetadata{FanotifyEventMetadata: unix.FanotifyEventMetadata{
		Fd: eventFD(t), Mask: execPermission}}}
	h.timer = time.AfterFunc(long, h.late)
	return h
}

func TestOnlyTheFirstAnswerIsGiven(t *testing.T) {
	g, kernel := socketGate(t)
	h := holding(t, g)
	h.allow("create")
	h.allow("late")
	if got := answer(t, kernel); got.Fd != h.event.Fd || got.Response != unix.FAN_ALLOW || isOpen(h.event.Fd) {
		t.Errorf("%+v, descriptor open: %v", got, isOpen(h.event.Fd))
	}
	if err := kernel.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _ := kernel.Read(make([]byte, 8)); n > 0 {
		t.Error("a second answer was given")
	}
	if n := testutil.ToFloat64(g.metrics.events.WithLabelValues("create")); n != 1 || testutil.ToFloat64(g.metrics.late) != 0 {
		t.Errorf("create is counted %v times, late %v", n, testutil.ToFloat64(g.metrics.late))
	}
}

func TestWhatIsNotAnsweredInTimeIsAllowed(t *testing.T) {
	g, kernel := socketGate(t)
	h := holding(t, g)
	h.timer.Reset(time.Millisecond)
	if got := answer(t, kernel); got.Fd != h.event.Fd || got.Response != unix.FAN_ALLOW {
		t.Errorf("%+v", got)
	}
	h.allow("create")
	for deadline := time.Now().Add(long); testutil.ToFloat64(g.metrics.late) == 0 && time.Now().Before(deadline); {
		runtime.Gosched() // the answer is given before it is counted
	}
	if late, created := testutil.ToFloat64(g.metrics.late), testutil.ToFloat64(g.metrics.events.WithLabelValues("create")); late != 1 || created != 0 {
		t.Errorf("late is counted %v times, create %v", late, created)
	}
}

func TestAnAnswerToNobodyIsCounted(t *testing.T) {
	g, _ := socketGate(t)
	g.Close()
	h := holding(t, g)
	h.allow("create")
	if n := testutil.ToFloat64(g.metrics.lookups.WithLabelValues("answer")); n != 1 || isOpen(h.event.Fd) {
		t.Errorf("counted %v, descriptor open: %v", n, isOpen(h.event.Fd))
	}
}
