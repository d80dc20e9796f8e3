// Package gate is the process that holds the node's runtimes, and cannot hang.
//
//	kernel ──event──► gate process                            worker process
//	                  group, marks, lookup, deadlines,  ─exec─►  argv, files, tracker, listing, API
//	                  watchdog, the workers' restarts   ◄─allow─ opens what is to be marked, sends the descriptor
//
// Gate is the first process of the agent, but for one that only waits (First). It owns the fanotify group and answers each
// of its events, at the deadline whatever happens: one thread waits in poll(2), asks the kernel who waits, and answers
// what needs no file by itself. Everything that can wait is a worker's: it reads strangers' memory and files, and may
// hang, crash or be unkillable. Nobody waits for it longer than the deadline; without a worker everything is allowed at
// once, and counted. The marks stay, so a worker's restart is no gap.
//
// After its start the gate opens no path and no connection, and takes no lock that anybody else could keep. What it
// cannot survive, a thread of its own that stands still, its watchdog ends: a POSIX timer, whose SIGKILL closes the
// group, and with the group the kernel lets everything go (fanotify_release, fs/notify/fanotify/fanotify_user.c).
//
// Session is the worker's end. Both are of one binary and of one version: their messages (message.go) are structures.
package gate
