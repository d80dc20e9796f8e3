// Package containerhook turns what the kernel of one node does into event.Events: a container's runtime is held in execve,
// what it was asked for is read, and its init is followed to its end. It knows no Kubernetes.
//
// The way of one container that is created and started, and the file of each step; gate/ is another process:
//
//	runtime            kernel                     containerhook
//	execve create ──► fanotify holds it ────────► gate/gate.go     one event a read, a deadline for each
//	    │                                          task/lookup.go   which task waits (bpf/lookup.bpf.c)
//	    │                                          inspector.go     in the worker, from here on
//	    │                                          task/argv.go     its arguments (bpf/argv.bpf.c)
//	    │                                          oci/command.go   what they ask for
//	    │                                          task/tracer.go   its children are followed from here on
//	    │                                          caller.go        config.json is opened, as the runtime sees it (hostfs/)
//	    ◄───────────── allowed ◄───────────────── gate/gate.go
//	    │                                          oci/config.go    config.json is read
//	fork, …, init ───► tracepoints ─────────────► task/tracer.go   fork, exec, exit (bpf/trace.bpf.c)  ─► Creating
//	exit 0 ──────────► tracepoints ─────────────► task/tracer.go                                       ─► Created
//	execve start ────► fanotify holds it ────────► oci/state.go     the init, as the runtime names it
//	    │                                          task/lookup.go   and as the kernel describes it
//	    │                                          the handler returns                                  ─► Created
//	    ◄───────────── allowed ◄───────────────── gate/gate.go
//	init: execve ────► tracepoints ─────────────► task/tracer.go                                       ─► Running
//	init: exit ──────► tracepoints ─────────────► task/tracer.go                                       ─► Stopped
//
// Three actors are put together by hook.go: the inspector, which leads through the first half; the reconciler, which lists
// what the runtimes keep on disk (oci/listing.go) at first, now and then, and whenever something may have been missed; and
// the tracer. All they see ends as an input of the tracker (tracker/), the only state. runtimes/ keeps the marks on the
// runtimes' binaries, hostfs/ bounds what a file system that hangs can keep.
package containerhook
