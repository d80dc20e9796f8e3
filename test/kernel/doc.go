// Package kernel holds the tests that need a real kernel, root, and real runtimes: private copies of Debian's runc, crun
// and conmon, so that no other container of the machine is held. The agent runs as it does in its pod: in a PID and a
// mount namespace of its own, with the host's root, and so the host's procfs, elsewhere.
package kernel
