package supervisor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// planEnv says what the workers do, when this test binary runs as a supervisor and so as its workers.
const planEnv = "CONTAINERHOOK_TEST_PLAN"

func TestMain(m *testing.M) {
	plan, ok := plans[os.Getenv(planEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	restarts, hookOff, isWorker := Worker()
	if isWorker {
		fmt.Fprintf(os.Stdout, "worker %d, hook off: %v, %s\n", restarts, hookOff, strings.Join(os.Args, " "))
		plan(restarts)
		os.Exit(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := Run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
}

var plans = map[string]func(restarts int){
	"ends well": func(int) {},
	"fails twice": func(restarts int) {
		if restarts < 2 {
			os.Exit(restarts + 1)
		}
	},
	"panics": func(restarts int) {
		if restarts == 0 {
			panic("on purpose")
		}
	},
	"is killed": func(restarts int) {
		if restarts == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	},
	"fails with the hook": func(int) {
		if _, hookOff, _ := Worker(); !hookOff {
			os.Exit(1)
		}
		untilAsked()
	},
	"works": func(int) { untilAsked() },
	"does not listen": func(int) {
		signal.Ignore(syscall.SIGTERM)
		fmt.Fprintln(os.Stdout, "ready")
		<-time.After(time.Hour) // not select {}, which Go calls a deadlock
	},
}

// untilAsked works until it is asked to end.
func untilAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	fmt.Fprintln(os.Stdout, "ready")
	<-asked
	fmt.Fprintln(os.Stdout, "asked to end")
}

// supervised is a supervisor with what it and its workers print.
type supervised struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	out   io.Closer
}

func supervise(t *testing.T, plan string) *supervised {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "an", "argument")
	cmd.Args[0] = "agent"
	cmd.Env = append(os.Environ(), planEnv+"="+plan)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &supervised{cmd: cmd, lines: bufio.NewScanner(out), out: out}
}

// until reads lines up to the one that is last, or to the end: which comes when the workers have ended too.
func (s *supervised) until(last string) (lines []string) {
	for s.lines.Scan() {
		if lines = append(lines, s.lines.Text()); s.lines.Text() == last {
			break
		}
	}
	return lines
}

func worker(restarts int, hookOff bool) string {
	return fmt.Sprintf("worker %d, hook off: %v, agent an argument", restarts, hookOff)
}

func TestWorkersAreStartedAgainUntilOneEndsWell(t *testing.T) {
	for plan, want := range map[string][]string{
		"ends well":   {worker(0, false)},
		"fails twice": {worker(0, false), worker(1, false), worker(2, false)},
		"panics":      {worker(0, false), worker(1, false)},
		"is killed":   {worker(0, false), worker(1, false)},
	} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			s := supervise(t, plan)
			if diff := cmp.Diff(want, s.until("")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if err := s.cmd.Wait(); err != nil {
				t.Errorf("the supervisor: %v", err)
			}
		})
	}
}

func TestWorkersThatCrashAgainAndAgainWorkWithoutTheHook(t *testing.T) {
	t.Parallel()
	s := supervise(t, "fails with the hook")
	want := []string{worker(0, false), worker(1, false), worker(2, false), worker(3, false), worker(4, false), worker(5, true), "ready"}
	if diff := cmp.Diff(want, s.until("ready")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	s.end(t, []string{"asked to end"})
}

func TestWorkerIsAskedToEndWithItsSupervisor(t *testing.T) {
	t.Parallel()
	s := supervise(t, "works")
	s.until("ready")
	s.end(t, []string{"asked to end"})
}

func TestWorkerThatDoesNotListenIsKilled(t *testing.T) {
	t.Parallel()
	s := supervise(t, "does not listen")
	s.until("ready")
	began := time.Now()
	s.end(t, nil)
	if took := time.Since(began); took < stopTimeout {
		t.Errorf("after %v, before %v", took, stopTimeout)
	}
}

// end asks the supervisor to end, and expects what is printed from there on.
func (s *supervised) end(t *testing.T, want []string) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, s.until("")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the supervisor: %v", err)
	}
}

// The worker holds the other end of the pipe too: it reads to its end only where both are gone.
func TestWorkerDiesWithAKilledSupervisor(t *testing.T) {
	t.Parallel()
	s := supervise(t, "works")
	s.until("ready")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan []string, 1)
	go func() { ended <- s.until("") }()
	select {
	case lines := <-ended:
		if len(lines) > 0 {
			t.Errorf("it said %q", lines)
		}
	case <-time.After(30 * time.Second):
		t.Error("the worker lives on")
		s.out.Close()
	}
	_ = s.cmd.Wait() // killed, as it should be
}

func TestAWorkerOnlyKnowsItselfByItsEnvironment(t *testing.T) {
	if _, _, yes := Worker(); yes {
		t.Error("the test is a worker")
	}
	t.Setenv(workerEnv, "3")
	t.Setenv(hookOffEnv, "1")
	if restarts, hookOff, yes := Worker(); restarts != 3 || !hookOff || !yes {
		t.Errorf("%d %v %v", restarts, hookOff, yes)
	}
}
