package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"syscall"

	"github.com/containerhook/containerhook/internal/containerhook/task"
)

const (
	firstBackoff = 100 * time.Millisecond // a single crash costs hardly anything
	lastBackoff  = 30 * time.Second
	// steadyAfter is how long a worker lives before its end has nothing to do with the ones before.
	steadyAfter = time.Minute
	// stopTimeout is how long a worker may take to end when it is asked to.
	stopTimeout = 3 * time.Second
	// reapTimeout is how long the end of a worker is waited for that is killed, or ends. One in uninterruptible sleep ends
	// when the kernel lets it, and holds nothing of ours.
	reapTimeout = 500 * time.Millisecond
	// beginTimeout is how soon a worker has failed to begin, rather than crashed.
	beginTimeout = 10 * time.Second
)

// ExitError is that a worker could not begin, with an exit code by which it says that no other one will.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("ended with exit code %d", e.Code) }

// Exit codes of a worker that no new one mends.
const (
	ExitUsage        = 2 // wrong flags; Go's runtime ends with it after a panic, too
	ExitNotPermitted = 3
)

// supervise starts a worker, and another one whenever it ends but with 0 or hangs, until ctx ends.
func (g *Gate) supervise(ctx context.Context) error {
	log := logr.FromContextOrDiscard(ctx)
	backoff := firstBackoff
	for restarts := 0; ; restarts++ {
		started := time.Now()
		w, err := g.start(restarts)
		if err != nil {
			return err
		}
		code, ended := g.await(ctx, w)
		lived := time.Since(started)
		switch {
		case ctx.Err() != nil, ended && code == 0:
			return nil
		case ended && restarts == 0 && lived < beginTimeout && (code == ExitUsage || code == ExitNotPermitted):
			return &ExitError{code}
		}

		if lived > steadyAfter {
			backoff = firstBackoff
		}
		log.Error(nil, "Worker crashed: what waited for it was allowed", "exitCode", code, "reaped", ended,
			"lived", lived.Round(time.Millisecond).String(), "backoff", backoff.String())
		g.stats.Restarts.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// worker is one process.
type worker struct {
	pid  int
	peer *peer
	code chan int // its exit code, 128 + the signal for one that was killed
}

// await waits for the end of w, and brings it about when ctx ends or the loop says that it hangs. ended is false for one
// that could not be reaped in time: it is killed, and nobody waits for it.
func (g *Gate) await(ctx context.Context, w *worker) (code int, ended bool) {
	hung := g.hung
	for {
		select {
		case code := <-w.code:
			return code, true
		case p := <-hung:
			if p != w.peer {
				continue
			}
			// It may be ending by itself, and has a code to say why: its socket closes a moment before it can be reaped.
			if code, ended := w.reap(); ended {
				return code, true
			}
			return w.kill()
		case <-ctx.Done():
			_ = unix.Kill(w.pid, unix.SIGTERM) // fails only where it has ended
			select {
			case code := <-w.code:
				return code, true
			case <-time.After(stopTimeout):
			}
			return w.kill()
		}
	}
}

func (w *worker) kill() (code int, ended bool) {
	_ = unix.Kill(w.pid, unix.SIGKILL) // not reaped: the pid is its own
	return w.reap()
}

func (w *worker) reap() (code int, ended bool) {
	select {
	case code := <-w.code:
		return code, true
	case <-time.After(reapTimeout):
		return 128 + int(unix.SIGKILL), false
	}
}

// start starts a worker and gives the loop its connection.
func (g *Gate) start(restarts int) (*worker, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the worker's socket: %w", err)
	}
	var life [2]int
	if err := unix.Pipe2(life[:], unix.O_CLOEXEC); err != nil {
		closeAll(ends[:]...)
		return nil, fmt.Errorf("make the worker's pipe: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		closeAll(ends[0], ends[1], life[0], life[1])
		return nil, fmt.Errorf("make the worker's eventfd: %w", err)
	}
	w := &worker{peer: &peer{fd: ends[0], life: life[0], bell: bell}, code: make(chan int, 1)}
	files := []uintptr{0, 1, 2, uintptr(ends[1]), uintptr(life[1]), uintptr(bell), g.page.Fd()}
	present := ""
	programs := g.programs.FDs()
	inherited := programs[:]
	for _, f := range g.o.Files {
		if f == nil {
			inherited = append(inherited, -1)
			continue
		}
		inherited = append(inherited, int(f.Fd()))
	}
	for _, fd := range inherited {
		if fd < 0 {
			present += "0"
			continue
		}
		present += "1"
		files = append(files, uintptr(fd))
	}
	env := append(os.Environ(), g.environment(restarts, present)...)

	started := make(chan error, 1)
	onThread(func() { w.run(files, env, g.hookFD(), started) })
	err = <-started
	closeAll(ends[1], life[1])
	if err != nil {
		closeAll(ends[0], life[0], bell)
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	g.peers <- w.peer
	g.wakeUp()
	return w, nil
}

// run starts the process, says so, and waits for its end, on a thread of its own with a table of descriptors of its own:
// no process between fork and exec, where a file system that hangs can keep it, has the group open. The kernel kills
// the worker when this thread ends, which it does with the gate only (PR_SET_PDEATHSIG).
func (w *worker) run(files []uintptr, env []string, group int, started chan<- error) {
	err := ownTable()
	if err == nil {
		closeAll(group)
		w.pid, err = syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: env, Files: files,
			Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
		// This table must not keep anything open: the ends of the socket, above all.
		err = errors.Join(err, closeOthers())
	}
	started <- err
	if w.pid <= 0 {
		return
	}

	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(w.pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	w.code <- exitCode(status)
}

// hookFD is the group's descriptor, -1 where there is none.
func (g *Gate) hookFD() int {
	if g.group == nil {
		return -1
	}
	return g.group.fd
}

// The worker's environment says who it is, and what the gate knows.
const (
	envRestarts  = "CONTAINERHOOK_WORKER"       // how many workers there were before; set in workers only
	envPresent   = "CONTAINERHOOK_PROGRAMS"     // which of task.FDs and Options.Files are inherited, a digit each
	envHost      = "CONTAINERHOOK_HOST"         // task.Host
	envHookErr   = "CONTAINERHOOK_HOOK_ERROR"   // why nothing is held
	envTracerErr = "CONTAINERHOOK_TRACER_ERROR" // why nothing is followed
)

func (g *Gate) environment(restarts int, present string) []string {
	env := []string{envRestarts + "=" + strconv.Itoa(restarts), envPresent + "=" + present}
	if g.programs.Lookup != nil {
		env = append(env, envHost+"="+encodeHost(g.programs.Lookup.Host()))
	}
	for name, err := range map[string]error{envHookErr: g.hookErr, envTracerErr: g.tracerErr} {
		if err != nil {
			env = append(env, name+"="+err.Error())
		}
	}
	return env
}

func encodeHost(h task.Host) string {
	n := h.Namespaces
	return fmt.Sprint(h.Level, h.PIDNS, n.Cgroup, n.IPC, n.Mount, n.Network, n.PID, n.User, n.UTS)
}

func decodeHost(s string) (h task.Host, err error) {
	n := &h.Namespaces
	_, err = fmt.Sscan(s, &h.Level, &h.PIDNS, &n.Cgroup, &n.IPC, &n.Mount, &n.Network, &n.PID, &n.User, &n.UTS)
	return h, err
}
