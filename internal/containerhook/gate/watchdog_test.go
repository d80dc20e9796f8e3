package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mortalEnv says how this test binary, started once more, tries its luck with the kernel's timer.
const mortalEnv = "CONTAINERHOOK_TEST_MORTAL"

func TestMain(m *testing.M) {
	if life, ok := mortals[os.Getenv(mortalEnv)]; ok {
		if err := life(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const short = 300 * time.Millisecond

var mortals = map[string]func() error{
	// The call may return before the process stops: another thread takes the signal.
	"stops": armed(func(*killTimer) error {
		return errors.Join(unix.Kill(os.Getpid(), unix.SIGSTOP), errors.New(fmt.Sprint("alive after ", wait(long))))
	}),
	"hangs": armed(func(*killTimer) error { return errors.New(fmt.Sprint("alive after ", wait(long))) }),
	"goes on": armed(func(t *killTimer) error {
		defer wait(2 * short)
		return t.arm(long)
	}),
	// The kernel keeps the signal from it: why First is another process.
	"is the first of its PID namespace": armed(func(*killTimer) error {
		if os.Getpid() != 1 {
			return errors.New("it is not")
		}
		wait(2 * short)
		return nil
	}),
	// Its timers wake who polls, which waits for an hour.
	"has threads with tables of their own": func() error {
		if _, err := pollerFDs(); err != nil {
			return err
		}
		time.AfterFunc(time.Hour, func() {})
		for range 200 {
			wait(time.Millisecond)
			ended := make(chan error, 1)
			onThread(func() {
				err := errors.Join(ownTable(), closeOthers())
				wait(200 * time.Microsecond)
				ended <- err
			})
			if err := <-ended; err != nil {
				return err
			}
		}
		return nil
	},
	"disarms": armed(func(t *killTimer) error {
		t.disarm()
		wait(2 * short)
		return nil
	}),
	// A gate that answers, for longer than the deadline; and then none any more, nor a heartbeat.
	"beats": func() error {
		h := &heartbeat{ask: func() error { return nil }, stats: new(Stats), first: make(chan struct{})}
		ctx, cancel := context.WithTimeout(context.Background(), BeatDeadline+beatEvery)
		defer cancel()
		if err := h.run(ctx); err != nil {
			return err
		}
		if age := time.Since(time.Unix(0, h.stats.LastBeat.Load())); age > 2*beatEvery {
			return fmt.Errorf("the last beat is %v old", age)
		}
		<-h.first
		wait(BeatDeadline + beatEvery)
		return nil
	},
	"is not answered": func() error {
		h := &heartbeat{ask: func() error { wait(long); return nil }, stats: new(Stats), first: make(chan struct{})}
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		return errors.Join(h.run(ctx), errors.New("alive"))
	},
}

// armed is a life under a timer.
func armed(life func(*killTimer) error) func() error {
	return func() error {
		timer, err := newKillTimer()
		if err == nil {
			err = timer.arm(short)
		}
		if err != nil {
			return err
		}
		return life(timer)
	}
}

// wait lets time pass that is the kernel's own: there is no state to poll.
func wait(d time.Duration) time.Duration { return <-after(d) }

func after(d time.Duration) <-chan time.Duration {
	c := make(chan time.Duration, 1)
	time.AfterFunc(d, func() { c <- d })
	return c
}

func TestKernelEndsOnlyWhatIsNotAlive(t *testing.T) {
	const first = "is the first of its PID namespace"
	for life, survives := range map[string]bool{"stops": false, "hangs": false, "is not answered": false,
		"goes on": true, "disarms": true, "beats": true, first: true,
		"has threads with tables of their own": true} {
		t.Run(life, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), long)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/proc/self/exe")
			cmd.Env = append(os.Environ(), mortalEnv+"="+life)
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if life == first {
				if os.Geteuid() != 0 {
					t.Skip("needs root")
				}
				cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
			}
			began := time.Now()
			err := cmd.Run()
			if ctx.Err() != nil {
				t.Fatalf("alive after %v", time.Since(began))
			}
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed == survives || survives && err != nil {
				t.Errorf("killed: %v (%v)", killed, err)
			}
			t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), cmd.ProcessState)
		})
	}
}
