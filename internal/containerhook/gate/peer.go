package gate

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pingEvery is how often a worker has to prove that it reads.
	pingEvery = int64(time.Second)
	// hungAfter is how long a worker may say nothing before it is replaced. A node that is busy is no reason: one that
	// starves gets some time in half a minute, and meanwhile nobody waits for it.
	hungAfter = int64(30 * time.Second)
	// nudgeAfter is how long a worker may keep the one goroutine that reads what the gate says before it is asked to have
	// another one: it may have run into what hangs.
	nudgeAfter = 2 * time.Millisecond
	// maxMarks bounds the marks: a node has a few runtimes.
	maxMarks = 100
)

// peer is the gate's end of the connection to one worker. For the loop, but for fd.
type peer struct {
	fd     int   // SOCK_SEQPACKET, does not block
	life   int   // a pipe that closes when the worker is killed, though it may not end
	bell   int   // an eventfd of both
	heard  int64 // CLOCK_MONOTONIC, ns: when the worker last said something
	sent   int64 // the same of the first that was sent since, or of the last ring
	rings  int   // since heard
	pinged int64
	silent bool // it missed a deadline, and has said nothing since
}

// send is false where the worker is gone, or has not read so much that there is no room.
func (p *peer) send(m *message) bool {
	if p.sent <= p.heard {
		p.sent = monotonic()
	}
	return send(p.fd, m.bytes()) == nil
}

// nudge rings where the worker has not said anything to what it was sent, and returns when to look again: later each time.
func (p *peer) nudge(now int64) int64 {
	if p.sent <= p.heard {
		p.rings = 0
		return math.MaxInt64
	}
	wait := int64(nudgeAfter) << min(p.rings, 9)
	if now-p.sent < wait {
		return p.sent + wait
	}
	one := uint64(1)
	_ = write(p.bell, unsafe.Pointer(&one), unsafe.Sizeof(one)) // fails only where it rings already
	p.sent = now
	p.rings++
	return now + 2*wait
}

func (p *peer) ping() {
	p.pinged = monotonic()
	p.send(&message{Kind: kindPing}) // no answer says the same
}

// tick pings a worker that has said nothing for a while, and reports one that is hung.
func (p *peer) tick(now int64) (hung bool) {
	if now-p.heard >= pingEvery && now-p.pinged >= pingEvery {
		p.ping()
	}
	return now-p.heard > hungAfter
}

// adopt takes over the worker that the supervisor has started.
func (g *Gate) adopt() error {
	var counter [8]byte
	_, _ = unix.Read(g.wake, counter[:])
	select {
	case p := <-g.peers:
		g.drop(g.peer)
		p.heard = monotonic()
		g.peer = p
		for _, m := range g.marks {
			m.stale = true // until this worker asks for it too
		}
		return errors.Join(g.waiter.add(p.fd), g.waiter.add(p.life))
	default:
		return nil
	}
}

// drop gives a worker up. Whatever it was asked about is allowed.
func (g *Gate) drop(p *peer) {
	if p == nil {
		return
	}
	for {
		id, _, ok := g.held.oldest()
		if !ok {
			break
		}
		g.release(id, NoWorker)
	}
	g.waiter.remove(p.fd)
	g.waiter.remove(p.life)
	closeAll(p.fd, p.life, p.bell)
	g.peer = nil
	select {
	case g.hung <- p: // it may be alive, and must not be
	default:
	}
}

// receive reads all that the worker has said.
func (g *Gate) receive() {
	for range maxHeld {
		data, control, err := g.inbox.receive(g.peer.fd)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil || len(data) == 0 {
			g.drop(g.peer)
			return
		}
		g.peer.heard, g.peer.silent = monotonic(), false

		m, err := decode(data)
		fd := descriptorIn(control)
		if err != nil { // nothing that a worker of this version says
			closeAll(fd)
			g.drop(g.peer)
			return
		}
		g.handle(&m, fd)
	}
}

// handle does what one message says. fd is the descriptor that came with it, or -1.
func (g *Gate) handle(m *message, fd int) {
	switch m.Kind {
	case kindAllow:
		g.release(m.ID, m.Result)
	case kindMark:
		m.Kind, m.Errno = kindMarked, errnoOf(g.mark(fd, m.Token))
		g.peer.send(m)
		return // the mark keeps the descriptor
	case kindUnmark:
		for file, marked := range g.marks {
			if marked.token == m.Token {
				g.unmark(file)
			}
		}
	case kindSynced:
		for file, marked := range g.marks {
			if marked.stale {
				g.unmark(file)
			}
		}
	}
	closeAll(fd)
}

// inode identifies a binary, whatever they are called.
type inode struct{ dev, ino uint64 }

func inodeOf(fd int) (inode, error) {
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return inode{}, fmt.Errorf("stat a file: %w", err)
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// mark is one marked file.
type mark struct {
	fd    int    // stays open: to unmark an inode that has no path any more
	token uint32 // the worker's name for it
	stale bool   // no worker since the last restart has asked for it
}

// mark marks the file that fd is open on, and keeps fd. A file that is marked already gets the new token. The worker has
// looked that the file system is one that answers: each call here may ask it.
func (g *Gate) mark(fd int, token uint32) error {
	if fd < 0 {
		return unix.EBADF
	}
	file, err := inodeOf(fd)
	if before := g.marks[file]; err == nil && before != nil {
		before.token, before.stale = token, false
		closeAll(fd)
		return nil
	}
	switch {
	case err != nil:
	case g.hookErr != nil:
		err = unix.ENODEV
	case len(g.marks) >= maxMarks:
		err = unix.ENOSPC
	default:
		err = g.group.mark(fd, execPermission)
	}
	if err != nil {
		closeAll(fd)
		return err
	}
	g.marks[file] = &mark{fd: fd, token: token}
	return nil
}

func (g *Gate) unmark(file inode) {
	m := g.marks[file]
	_ = g.group.unmark(m.fd, execPermission) // fails only where the kernel has dropped it with the inode
	closeAll(m.fd)
	delete(g.marks, file)
}

// errnoOf is the number of an error of the kernel, 0 for none.
func errnoOf(err error) int32 {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return int32(errno)
	default:
		return int32(unix.EIO)
	}
}

// descriptorIn is the descriptor that came with a message, -1 for none; more than one no worker sends.
func descriptorIn(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	closeAll(fds[1:]...)
	return fds[0]
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
