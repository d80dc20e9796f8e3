// Package containerhook turns what the kernel of one node does into hook.Events: a container's runtime is held in execve,
// what it was asked for is read, and its init is followed to its end. It knows no Kubernetes.
//
// The way of one container that is created and started, and the file of each step:
//
//	runtime            kernel                     containerhook
//	execve create ──► fanotify holds it ────────► gate.go       one event a read, a deadline for each
//	    │                                          who.go        which task waits (bpf/who.bpf.c)
//	    │                                          argv.go       its arguments (bpf/argv.bpf.c)
//	    │                                          command.go    what they ask for
//	    │                                          bundle.go     config.json, as the runtime sees it (hostfs.go)
//	    │                                          life.go       its children are followed from here on
//	    ◄───────────── allowed ◄───────────────── gate.go
//	fork, …, init ───► tracepoints ─────────────► life.go       fork, exec, exit (bpf/life.bpf.c)   ─► Creating
//	exit 0 ──────────► tracepoints ─────────────► life.go                                           ─► Created
//	execve start ────► fanotify holds it ────────► state.go      the init, as the runtime names it
//	    │                                          who.go        and as the kernel describes it
//	    │                                          the Handler returns                              ─► Created
//	    ◄───────────── allowed ◄───────────────── gate.go
//	init: execve ────► tracepoints ─────────────► life.go                                           ─► Running
//	init: exit ──────► tracepoints ─────────────► life.go                                           ─► Stopped
//
// inspect.go leads through the first half. Everything ends as an input of tracker.go, the only state: one goroutine, no
// clock, no I/O. runtimes.go keeps the marks on the runtimes' binaries. inventory.go lists what the runtimes keep on disk
// (listing.go): at first, now and then, and whenever something may have been missed. heartbeat.go proves that the gate
// answers, and has the kernel end the process when it does not. hook.go puts them together.
package containerhook
