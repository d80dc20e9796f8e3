package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

const (
	each  = 10  // containers of each kind are made
	execs = 400 // that are held, with arguments of their own
)

// report counts the checks.
type report struct{ passed, failed int }

func (r *report) add(what string, err error) {
	if err == nil {
		r.passed++
		fmt.Println("PASS", what)
		return
	}
	r.failed++
	fmt.Println("FAIL", what+":", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// check runs every check, and prints the last line.
func check() error {
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return fmt.Errorf("ask the kernel for its name: %w", err)
	}
	release := unix.ByteSliceToString(kernel.Release[:])
	r := &report{}
	r.hooked(release)
	r.held()
	r.stopped()
	r.unhooked()
	fmt.Printf("kernel %s: %d passed, %d failed\n", release, r.passed, r.failed)
	return nil
}

// hooked is what must be so on every kernel from 5.10 on.
func (r *report) hooked(release string) {
	a, err := startAgent()
	if err == nil && strings.Contains(a.said(), "Cannot hold runtimes") {
		err = errors.New("it is not hooked")
	}
	r.add("the agent hooks the node", err)
	if a == nil {
		return
	}
	if err != nil {
		fmt.Println("the agent's log:\n" + a.said())
		r.add("the agent ends well", a.stop())
		return
	}
	r.add("an argv is copied by BPF from 6.2 on", loadedFrom(release, "copy_argv", map[string]version{"amd64": {6, 2}, "arm64": {6, 2}}))
	filterFrom := map[string]version{"amd64": {5, 5}, "arm64": {6, 4}}
	r.add("execs are filtered by BPF from 5.5 on, on arm64 from 6.4 on", loadedFrom(release, "on_event", filterFrom))
	if from(release, filterFrom) {
		r.add("what names no container needs no worker", a.filters())
		compareWays()
	}
	r.add(fmt.Sprintf("%d execs are told, each once, with its own arguments", execs), a.tellsExecs())
	for _, runtime := range []string{runc, crun} {
		name := filepath.Base(runtime)
		for i := range each {
			id, code := fmt.Sprintf("%s-run-%d", name, i), 28*i // 0 to 252
			r.add(fmt.Sprintf("%s run, exit code %d", name, code), a.runs(runtime, id, code))
		}
		for i := range each {
			id, code := fmt.Sprintf("%s-create-%d", name, i), 255-28*i
			r.add(fmt.Sprintf("%s create, start, exit code %d, delete", name, code), a.createsAndStarts(runtime, id, code))
		}
		var long []string
		for range 2048 {
			long = append(long, "--log", "/dev/null")
		}
		r.add(name+" run with an argv of 32 KiB", a.runs(runtime, name+"-long", 3, long...))
		r.add(name+" create, start, in a user namespace of its own", a.hasOwnUsers(runtime, name+"-userns"))
		r.add(name+" run, OOM-killed", a.runsOutOfMemory(runtime, name+"-oom"))
		r.add(name+" create, start, a child is OOM-killed, kill", a.losesChild(runtime, name+"-child"))
		r.add(name+" kill, by SIGKILL", a.isKilled(runtime, name+"-kill"))
	}
	r.add("no worker was killed meanwhile", crashed(a))
	r.add("a stopped worker holds nothing, and the next one takes over", a.survivesStop())
	r.add("no other container is published", a.strangers())
	r.add("the agent ends well", a.stop())
	if r.failed > 0 || strings.Count(a.said(), "\n") > 1 { // one line for the worker that was killed
		fmt.Println("the agent's log:\n" + a.said())
	}
}

// crashed says whether a worker was.
func crashed(a *agent) error {
	if strings.Contains(a.said(), "Worker crashed") {
		return errors.New("one was")
	}
	return nil
}

// tellsExecs executes a marked program that takes no command: each time another container's create, which fails.
func (a *agent) tellsExecs() error {
	id := func(i int) string { return fmt.Sprintf("exec-%d", i) }
	for i := range execs {
		var failed *exec.ExitError
		if err := exec.Command(marked, "create", "--bundle", "/nowhere/"+id(i), id(i)).Run(); !errors.As(err, &failed) {
			return fmt.Errorf("execute %s: %w", marked, err)
		}
	}

	// One deadline for all: each is waited for, but what is lost is not waited for once more.
	_ = eventually(func() error {
		for i := range execs {
			if len(a.history(id(i))) == 0 {
				return errors.New("not all are published")
			}
		}
		return nil
	})

	lost, doubled, mismatched := 0, 0, 0
	for i := range execs {
		told := a.history(id(i))
		switch o := told[max(0, len(told)-1):]; {
		case len(told) == 0:
			lost++
		case len(told) > 1:
			doubled++
		case o[0].Spec.Bundle != "/nowhere/"+id(i) || o[0].Status.State != v1alpha1.StateStopped || o[0].Status.Reason != v1alpha1.StopCreateFailed ||
			o[0].Status.ExitCode == nil || *o[0].Status.ExitCode != 99: // what the probe says to a command that it does not know
			mismatched++
		}
	}
	if lost+doubled+mismatched > 0 {
		return fmt.Errorf("%d lost, %d doubled, %d mismatched", lost, doubled, mismatched)
	}
	return nil
}

func (a *agent) runs(runtime, id string, code int, global ...string) error {
	c, err := newContainer(runtime, id, nil, "exit", fmt.Sprint(code))
	if err != nil {
		return err
	}
	if err := c.run(global...); err != nil {
		return err
	}
	return errors.Join(differ("the runtime's exit code", c.code, code), a.tells(c))
}

func (a *agent) createsAndStarts(runtime, id string, code int) error {
	c, err := newContainer(runtime, id, nil, "exit", fmt.Sprint(code))
	if err != nil {
		return err
	}
	c.code = code
	if err := errors.Join(c.create(), c.start()); err != nil {
		return err
	}
	return errors.Join(a.tells(c), c.delete())
}

func (a *agent) hasOwnUsers(runtime, id string) error {
	c, err := newContainer(runtime, id, ownUsers, "exit", "9")
	if err != nil {
		return err
	}
	c.code, c.userns = 9, true
	if err := errors.Join(c.create(), c.start()); err != nil {
		return err
	}
	return errors.Join(a.tells(c), c.delete())
}

func (a *agent) runsOutOfMemory(runtime, id string) error {
	c, err := newContainer(runtime, id, limitMemory, "eat")
	if err != nil {
		return err
	}
	c.signal, c.oom, c.reason = int(syscall.SIGKILL), true, v1alpha1.StopOOMKilled
	if err := c.run(); err != nil {
		return err
	}
	return errors.Join(differ("the runtime's exit code", c.code, 137), a.tells(c))
}

// losesChild is a container in which another process than the init is OOM-killed: the init goes on.
func (a *agent) losesChild(runtime, id string) error {
	c, err := newContainer(runtime, id, limitMemory, "feed")
	if err != nil {
		return err
	}
	c.signal, c.code, c.oom = int(syscall.SIGKILL), 128+int(syscall.SIGKILL), true
	if err := errors.Join(c.create(), c.start()); err != nil {
		return err
	}

	if err := eventually(func() error {
		told := a.history(id)
		if last := told[max(0, len(told)-1):]; len(last) == 0 || last[0].Status.State != v1alpha1.StateRunning || !last[0].Status.OOMKilled {
			return fmt.Errorf("told as %q, and not as Running with a child that was OOM-killed", transitions(told))
		}
		return nil
	}); err != nil {
		return err
	}
	return errors.Join(c.must("kill", id, "KILL"), a.tells(c), c.delete())
}

func (a *agent) isKilled(runtime, id string) error {
	c, err := newContainer(runtime, id, nil, "sleep")
	if err != nil {
		return err
	}
	c.signal, c.code = int(syscall.SIGKILL), 128+int(syscall.SIGKILL)
	if err := errors.Join(c.create(), c.start(), c.must("kill", id, "KILL")); err != nil {
		return err
	}
	return errors.Join(a.tells(c), c.delete())
}

// survivesStop stops the worker, and kills it: neither holds a container, and the next one takes over.
func (a *agent) survivesStop() error {
	before, err := newContainer(runc, "before-stop", nil, "sleep")
	if err != nil {
		return err
	}
	during, err := newContainer(runc, "during-stop", nil, "exit", "5")
	if err != nil {
		return err
	}
	calm, err := newContainer(runc, "calm", nil, "exit", "4")
	if err != nil {
		return err
	}

	began := time.Now()
	if err := calm.run(); err != nil {
		return err
	}
	usual := time.Since(began)
	_ = a.history(calm.id) // what it is published as, the checks before this one have asked
	if err := errors.Join(before.create(), before.start()); err != nil {
		return err
	}
	worker, err := a.worker()
	if err != nil {
		return fmt.Errorf("find the worker: %w", err)
	}
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop the worker: %w", err)
	}

	began = time.Now()
	if err := during.run(); err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Printf("     a container ran in %v while the worker was stopped, in %v before\n",
		took.Round(time.Millisecond), usual.Round(time.Millisecond))
	_ = a.history(during.id) // the next worker may find it, or not
	if limit := min(10*usual+30*time.Second, patience); took > limit {
		return fmt.Errorf("a container took %v while the worker was stopped, want at most %v", took, limit)
	}
	if err := differ("the runtime's exit code while the worker was stopped", during.code, 5); err != nil {
		return err
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the worker: %w", err)
	}
	if err := eventually(func() error { return a.replaced(worker) }); err != nil {
		return err
	}
	if err := crashed(a); err == nil {
		return errors.New("the log does not say that the worker was killed")
	}

	if err := before.must("kill", before.id, "KILL"); err != nil {
		return err
	}
	told, err := a.wait(before.id, v1alpha1.StateStopped)
	if err != nil {
		return err
	}
	last := told[len(told)-1].Status
	if last.ExitCode == nil || *last.ExitCode != 137 {
		err = fmt.Errorf("the end of what ran before: exit code %v, reason %s", last.ExitCode, last.Reason)
	}
	return errors.Join(err, before.delete(), a.runs(runc, "after-stop", 6))
}

// stopped checks that a gate that stands still is killed by its watchdog, and that the kernel lets go what it held.
func (r *report) stopped() {
	a, err := startAgent()
	r.add("another agent hooks the node", err)
	if a == nil {
		return
	}
	during, err := newContainer(runc, "during-gate-stop", nil, "exit", "5")
	if err == nil {
		var gate int
		if gate, err = a.gate(); err == nil {
			err = syscall.Kill(gate, syscall.SIGSTOP)
		}
	}
	if err == nil {
		began := time.Now()
		err = errors.Join(during.run(), differ("the runtime's exit code while the gate was stopped", during.code, 5))
		fmt.Printf("     a container ran in %v while the gate was stopped\n", time.Since(began).Round(time.Millisecond))
	}
	r.add("a stopped gate is killed, and holds nothing any more", err)

	kill := time.AfterFunc(patience, func() { _ = a.cmd.Process.Kill() })
	<-a.read
	var exit *exec.ExitError
	if err = a.cmd.Wait(); errors.As(err, &exit) && exit.ExitCode() == 128+int(syscall.SIGKILL) && kill.Stop() {
		err = nil
	} else {
		err = fmt.Errorf("it ended with %w", err)
	}
	r.add("the agent of a gate that was killed ends, and says so", err)
}

// replaced says whether there is a worker after the one named, at work.
func (a *agent) replaced(before int) error {
	now, err := a.worker()
	if err != nil {
		return err
	}
	if now == before {
		return errors.New("the worker was not replaced")
	}
	return ready()
}

// tells waits for the end of c, and compares.
func (a *agent) tells(c *container) error {
	told, err := a.wait(c.id, v1alpha1.StateStopped)
	if err != nil {
		return err
	}
	return compare(c, told)
}

// unhooked is what must be so where the kernel lacks something: containers are found by listing, the agent says why,
// and its worker lives.
func (r *report) unhooked() {
	a, err := startAgent(hideBTF)
	if err == nil && !strings.Contains(a.said(), "Cannot hold runtimes") {
		err = errors.New("it does not say so")
	}
	r.add("without BTF the agent is ready, and not hooked", err)
	if a == nil {
		return
	}
	r.add("without BTF containers are listed", a.lists("listed"))
	r.add("without BTF no worker crashes", crashed(a))
	r.add("without BTF the agent ends well", a.stop())
	fmt.Println("     it said: " + strings.TrimSpace(a.said()))
}

func (a *agent) lists(id string) error {
	c, err := newContainer(runc, id, nil, "sleep")
	if err != nil {
		return err
	}
	if err := errors.Join(c.create(), c.start()); err != nil {
		return err
	}
	told, err := a.wait(id, v1alpha1.StateRunning)
	if err != nil {
		return err
	}
	err = differ("pid", int(told[len(told)-1].Status.PID), c.pid)
	if err := errors.Join(err, c.must("kill", id, "KILL"), c.delete()); err != nil {
		return err
	}

	if told, err = a.wait(id, v1alpha1.StateStopped); err != nil {
		return err
	}
	s := told[len(told)-1].Status
	return errors.Join(differ("reason", s.Reason, v1alpha1.StopExitUnknown), differ("an exit code", s.ExitCode != nil, false))
}
