package gate

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// First runs this program once more and waits for its end, where this is the first process of a PID namespace, as in a
// pod: is says whether, and code is what to end with. The kernel keeps every signal from such a process that comes from
// its own namespace and that it does not handle, SIGKILL included (kernel/signal.c, sig_task_ignored). The watchdog's
// would never arrive, so the gate must be another one.
func First() (code int, is bool, err error) {
	if os.Getpid() != 1 {
		return 0, false, nil
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	gate, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, true, fmt.Errorf("start the gate: %w", err)
	}
	go func() {
		for s := range signals {
			_ = unix.Kill(gate, s.(unix.Signal)) // fails only where it has ended
		}
	}()
	debug.FreeOSMemory()

	// Orphans come to the first process: a worker that the kernel could not end with its gate at once.
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, true, fmt.Errorf("wait for the gate: %w", err)
		case pid == gate:
			return exitCode(status), true, nil
		}
	}
}

// exitCode is that of an ended process, 128 + the signal for one that was killed.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
