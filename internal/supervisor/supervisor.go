// Package supervisor keeps one worker process running. It is all that the agent's first process does: the worker holds
// the node's runtimes and may have to die for it (internal/containerhook, heartbeat), so something must start it again.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// The worker's environment says who it is.
const (
	workerEnv   = "CONTAINERHOOK_WORKER"   // set in the worker: how often it was started again
	hookOffEnv  = "CONTAINERHOOK_HOOK_OFF" // set where it must not hook: it crashed too often
	stopTimeout = 3 * time.Second
)

// Worker says whether this process is a worker, how often workers were started again before it, and whether it has to
// leave the node's runtimes alone.
func Worker() (restarts int, hookOff, yes bool) {
	n, err := strconv.Atoi(os.Getenv(workerEnv))
	return n, os.Getenv(hookOffEnv) != "", err == nil
}

// Run starts this program again as a worker, with the same arguments, and again whenever it ends but with 0, until ctx
// ends. What no new worker mends (wrong flags, say) the caller finds out before. The goroutine that calls it keeps its
// thread meanwhile: the kernel kills the worker when the thread that started it ends (PR_SET_PDEATHSIG).
func Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	log := logr.FromContextOrDiscard(ctx)
	var history crashes
	for restarts := 0; ; restarts++ {
		hookOff := history.hookOff(time.Now())
		code, err := runWorker(ctx, restarts, hookOff)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return nil
		case code == 0 && hookOff == 0:
			return nil
		case code == 0:
			continue // its time without the hook is over
		}
		pause := history.add(time.Now())
		log.Info("Worker crashed: whatever it held was allowed by the kernel", "exitCode", code, "restartIn", pause.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// runWorker runs one worker to its end and returns its exit code, 128 + the signal for one that was killed. One that has
// to leave the hook alone is stopped after that time.
func runWorker(ctx context.Context, restarts int, hookOff time.Duration) (int, error) {
	env := append(os.Environ(), workerEnv+"="+strconv.Itoa(restarts))
	if hookOff > 0 {
		env = append(env, hookOffEnv+"=1")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hookOff)
		defer cancel()
	}
	worker := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	worker.Args[0] = os.Args[0]
	worker.Stdout, worker.Stderr = os.Stdout, os.Stderr
	worker.Env = env
	worker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	worker.Cancel = func() error { return worker.Process.Signal(syscall.SIGTERM) }
	worker.WaitDelay = stopTimeout
	if err := worker.Start(); err != nil {
		return 0, fmt.Errorf("start the worker: %w", err)
	}
	err := worker.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return 0, fmt.Errorf("wait for the worker: %w", err)
	}
	status, _ := worker.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}
