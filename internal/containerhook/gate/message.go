package gate

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

// version of the messages. Both ends are one binary: another number means that the file was replaced between two
// workers, and then the agent ends, so that both are of the new one.
const version = 2

// Kinds of messages, and which end sends them.
type kind uint16

const (
	kindExec   kind = iota + 1 // gate: a task is held; ID, Token, Task, times
	kindPing                   // gate: prove that you read
	kindMarked                 // gate: of the mark Token became Errno
	kindAllow                  // worker: let ID go, as Result
	kindPong                   // worker
	kindMark                   // worker: mark the file whose descriptor comes with it, and call it Token
	kindUnmark                 // worker: take the mark Token back
	kindSynced                 // worker: unmark what this worker has not marked
	kinds
)

// message is what both ends say, of one size, in one datagram.
type message struct {
	Version uint16
	Kind    kind
	Result  Result
	_       uint8
	Others  uint16 // tasks that are held besides
	Token   uint32 // names a marked file; the worker's choice
	Errno   int32  // 0 for success
	ID      uint64 // of a held exec, from 1
	ReadAt  int64  // CLOCK_MONOTONIC, ns: the event was read
	Until   int64  // CLOCK_MONOTONIC, ns: the deadline answers
	Task    task.Task
}

const messageSize = int(unsafe.Sizeof(message{}))

var errMessage = errors.New("not a message of this version")

// bytes is m as it is sent.
func (m *message) bytes() []byte {
	m.Version = version
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), messageSize)
}

// decode reads one datagram.
func decode(b []byte) (m message, err error) {
	if len(b) != messageSize {
		return m, fmt.Errorf("%w: %d bytes, not %d", errMessage, len(b), messageSize)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&m)), messageSize), b)
	switch {
	case m.Version != version:
		return message{}, fmt.Errorf("%w: version %d, not %d", errMessage, m.Version, version)
	case m.Kind == 0 || m.Kind >= kinds:
		return message{}, fmt.Errorf("%w: kind %d", errMessage, m.Kind)
	case m.Result >= Results:
		return message{}, fmt.Errorf("%w: result %d", errMessage, m.Result)
	}
	return m, nil
}
