// Package event is the vocabulary between what sees containers (internal/containerhook) and what reports them
// (internal/object, internal/agent): values only, no behaviour, no Kubernetes and no kernel.
package event

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Event is one container as it is after a transition. Events of one container arrive in order, and every one is
// complete in itself but for Spec: a receiver that keeps only the last one, and the first one's Spec, knows the
// container. The receiver owns the value.
type Event struct {
	Container

	// Spec is what the bundle's config.json asked for. It is set in the first event of a container and nil afterwards,
	// so that nobody keeps an environment full of secrets in memory; nil in the first event too when it could not be
	// read, and then Problem says why.
	Spec *specs.Spec
}

// State is how far a container has come, in the words of the OCI runtime-spec ("State"), capitalised as Kubernetes does.
type State string

const (
	Creating State = "Creating" // the runtime prepares it; its init may exist
	Created  State = "Created"  // prepared; the user's process has not begun
	Running  State = "Running"  // the user's process has begun
	Stopped  State = "Stopped"  // the init is dead, or never came to be
)

// Reason says why a container is Stopped.
type Reason string

const (
	Completed    Reason = "Completed"    // exit code 0
	Failed       Reason = "Error"        // another exit code, or a signal
	OOMKilled    Reason = "OOMKilled"    // the init itself was killed for want of memory
	CreateFailed Reason = "CreateFailed" // the runtime gave up before the user's process began; ExitCode is the runtime's
	ExitUnknown  Reason = "ExitUnknown"  // found dead: nobody saw its end, so there is no exit code
)

// Source says how a container became known.
type Source string

const (
	FromHook    Source = "Hook"    // its runtime was held in execve
	FromListing Source = "Listing" // found in the runtime's state on disk: it was there before the agent, or was missed
)

// Container is what the node knows of one container.
type Container struct {
	ID      string // as the runtime was given it; it passed runc's validateID
	Name    string // the engine's name for it (conmon --name); often empty
	Runtime Runtime
	Bundle  string // absolute, as the runtime's process sees it

	Rootless bool // the runtime did not run as root in the initial user namespace
	Source   Source
	Problem  string // why facts are missing; empty when none is

	State      State
	Init       Process   // of what it runs; see Process for a container that never had one
	CreateTime time.Time // the runtime began: its execve was held
	StartTime  time.Time // the user's process began; zero before
	FinishTime time.Time // the last thread of the init was gone; zero before

	ExitCode  *int32 // what wait(2) says, 128+signal for a signal, as runtimes report it; nil while unknown
	Signal    int32  // the signal that ended the init, or 0
	OOMKilled bool   // something in the container was killed for want of memory, the init or not
	Reason    Reason // empty unless Stopped
}

// Runtime is the OCI runtime that made the container.
type Runtime struct {
	Name string // the binary's base name: "runc", "crun"
	Path string // of the binary, in the host's root
	Root string // the runtime's state directory (--root), without the container's ID
}

// Process is an init process. PID and StartTicks together are its identity: a pid alone is reused. Of a container that
// never had an init PID is 0, and StartTicks are those of its runtime's process, so that the identity is still unique.
type Process struct {
	PID        int32  // in the host's PID namespace
	StartTicks uint64 // 1/100 s since boot: field 22 of /proc/<pid>/stat
	CgroupID   uint64 // inode of its cgroup in the unified hierarchy
	Namespaces Namespaces
}

// Namespaces are inode numbers, as in /proc/<pid>/ns.
type Namespaces struct {
	Cgroup, IPC, Mount, Network, PID, User, UTS uint32
}

// Key identifies one instance of a container on a node, until it reboots: the same ID made again is another instance.
type Key struct {
	Root, ID   string
	StartTicks uint64
}

// Key returns the identity of c. It stays the same in all events of a container.
func (c *Container) Key() Key { return Key{c.Runtime.Root, c.ID, c.Init.StartTicks} }

// Status is how the hook of a node does. The counts begin with the process.
type Status struct {
	Degraded error     // why runtimes are not held and containers are found by listing alone; nil where they are held
	NotReady error     // why the node's containers are not known yet; nil where they are
	Runtimes []string  // paths of the binaries that are held, sorted
	Unheld   []string  // runtimes that were found and are not held, each with the reason, sorted
	Listed   time.Time // when the runtimes' state was listed last; zero before
	Unread   int       // states that this listing could not read: what is not in it may be there
	Hanging  []string  // paths whose file system does not answer, sorted: what is there is not known
	Missed   int64     // containers that the hook should have seen and a listing found
	Late     int64     // execs that the deadline let go
}
