package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// reportWithin is how soon a change is reported, of whatever else hangs.
const reportWithin = time.Second

// ill is a node on which one file system does not answer.
type ill struct {
	*node
	a      *agent
	dir    string // the file system's
	theirs int    // a process in whose mount namespace it hangs, as it does for a runtime
}

// places are where a file system hangs, and what has the agent, and a runtime, run into it.
var places = []struct {
	what string
	args func(dir string) []string // of the agent
	hang func(i *ill) []func()     // returns what takes it away
	into func(i *ill) *exec.Cmd    // nil where the agent does so by itself
}{
	{what: "config.json",
		hang: func(i *ill) []func() { return []func(){machine.Hang(i.t, i.theirs, i.dir)} },
		into: func(i *ill) *exec.Cmd {
			return i.inTheirs(i.runc, "--root", i.stateRoot, "create", "--bundle", i.dir+"/bundle", idPrefix()+"-config")
		}},
	{what: "state.json",
		args: func(dir string) []string { return []string{"--state-root", dir} },
		hang: func(i *ill) []func() {
			return []func(){machine.Hang(i.t, i.theirs, i.dir), i.a.hang(hostDir + i.dir)}
		},
		into: func(i *ill) *exec.Cmd { return i.inTheirs(i.runc, "--root", i.dir, "start", idPrefix()+"-state") }},
	{what: "a runtime's binary",
		args: func(dir string) []string { return []string{"--runtime-path", dir + "/runc"} },
		hang: func(i *ill) []func() { return []func(){i.a.hang(hostDir + i.dir)} },
		into: func(i *ill) *exec.Cmd { // another one is replaced, so all are looked at again
			return exec.Command("sh", "-ec", `cp "$0" "$0.new"; mv "$0.new" "$0"`, i.crun)
		}},
	{what: "the checkpoint",
		args: func(dir string) []string { return []string{"--standalone=false", "--state-dir", dir} },
		hang: func(i *ill) []func() { return []func(){i.a.hang(i.dir)} }},
}

// inTheirs prepares what runs where the file system hangs. The shell stays: Go waits for an exec that it makes itself.
func (i *ill) inTheirs(argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", i.theirs), "sh", "-c", `"$0" "$@"; exit 0`}, argv...)...)
}

// TestAFileSystemThatHangsHoldsNobodyElse: it hangs for good under what one container is made of, while others come and go.
// Then the worker, of which a thread is in the kernel and cannot end, is killed, stopped, or out of memory: the next one
// works beside it.
func TestAFileSystemThatHangsHoldsNobodyElse(t *testing.T) {
	if !machine.Long() {
		t.Parallel() // most of it is the half minute that a worker may starve
	}
	for _, place := range places {
		for _, fault := range []string{"killed", "stopped", "out of memory"} {
			if fault != "killed" && place.what != "state.json" && !machine.Long() {
				continue // the worker hangs in the same way, wherever it does
			}
			t.Run(place.what+", the worker "+fault, func(t *testing.T) {
				n := newNode(t)
				i := &ill{node: n, dir: filepath.Join(n.dir, "ill")}
				if err := os.Mkdir(i.dir, 0o755); err != nil {
					t.Fatal(err)
				}
				i.theirs = machine.InMounts(t)
				args := []string{}
				if place.args != nil {
					args = place.args(i.dir)
				}
				reports := place.what != "the checkpoint" // the API server does not answer
				if !reports {
					args = append(args, "--kubeconfig", n.unreachable())
				}
				i.a = n.startAgent(args...)
				releases := place.hang(i)
				defer func() {
					for _, release := range slices.Backward(releases) {
						release()
					}
				}()
				if place.into != nil {
					into := place.into(i)
					if err := into.Start(); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = into.Wait() }) // after the release
				}
				i.check(place.what, fault, reports)
			})
		}
	}
}

// check checks an agent that runs into a file system that hangs.
func (i *ill) check(what, fault string, reports bool) {
	t, a := i.t, i.a
	if reports {
		i.eventuallyHangs()
	}
	a.eventually("with the runtimes marked", func() error { return i.allMarked() })
	i.hold(what+" on a file system that hangs", gateLives, func() { i.live(reports) })
	if !reports {
		a.eventually("writing its checkpoint", func() error {
			if a.log("Writing checkpoint") == 0 {
				return errors.New("it was not to be written")
			}
			return nil
		})
	}

	worker := a.worker()
	late, restarts := a.metric(lateExecs), a.log("Worker crashed")
	limit, longest := workerEnded, time.Duration(0)
	switch fault {
	case "killed":
		send(t, worker, syscall.SIGKILL)()
	case "stopped":
		send(t, worker, syscall.SIGSTOP)()
		limit, longest = gateLives, 40*time.Second // it may only starve, for half a minute
	case "out of memory":
		group := newMemoryGroup(t)
		group.confine(t, worker, 1<<20)
		limit = gateLives // until it is
	}
	i.hold(what+" on a file system that hangs, the worker "+fault, limit, func() {
		if err := poll(10*time.Second+longest, func() error {
			if fault == "out of memory" {
				_ = get("http://"+a.scrape+"/metrics", nil)
			}
			if got := a.log("Worker crashed"); got == restarts {
				return errors.New("the worker was not given up")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	next := a.worker()
	if !exiting(worker) || !uninterruptible(worker) {
		t.Errorf("the worker could be ended: its threads are %v", threads(worker))
	}
	a.eventually("ready, with another worker", func() error { return a.probe("/readyz") })
	if got := a.metric(lateExecs) - late; got > 3 {
		t.Errorf("%v execs waited for the deadline of a worker that was %s", got, fault)
	}
	t.Logf("worker %d works beside %d, whose threads are %v", next, worker, threads(worker))
	a.eventually("with the runtimes marked", func() error { return i.allMarked() })
	i.live(reports)
}

// eventuallyHangs waits until the agent says that something hangs.
func (i *ill) eventuallyHangs() {
	i.t.Helper()
	i.a.eventually("hanging", func() error {
		if i.a.metric("containerhook_hanging_paths") == 0 {
			return errors.New("no path hangs")
		}
		return nil
	})
}

// allMarked is an error while one of the runtimes, as it is now, is not marked.
func (i *ill) allMarked() error {
	marks := i.a.marks()
	for _, path := range []string{i.runc, i.crun, i.conmon, i.marked} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || !marks[st.Ino] {
			return fmt.Errorf("%s (inode %d) is not among %v: %w", path, st.Ino, marks, err)
		}
	}
	return nil
}

// live has a container live with each of the runtimes, and checks that its end is reported soon, by the hook.
func (i *ill) live(reports bool) {
	t := i.t
	for _, runtime := range []string{i.runc, i.crun} {
		id, bundle := i.bundle([]string{"exit", "7"}, nil)
		create, start := i.argv(runtime, "create", "--bundle", bundle, id), i.argv(runtime, "start", id)
		i.remove(runtime, id)
		before := time.Now()
		if out, err := bounded(limit, exec.Command("sh", "-ec", `$0; $1`, create, start)); err != nil {
			t.Errorf("%s: %v\n%s", runtime, err, out)
			continue
		}
		if !reports {
			continue
		}
		ended := time.Now()
		c := i.a.wait(id, v1alpha1.StateStopped)
		took := time.Since(ended)
		t.Logf("create and start with %s took %v, its end was reported %v later, as %s", filepath.Base(runtime),
			ended.Sub(before).Round(time.Millisecond), took.Round(time.Millisecond), transitions(i.a.history(id)))
		if took > reportWithin+machineAtMost {
			t.Errorf("its end was reported %v later", took)
		}
		if c.Status.ExitCode == nil || *c.Status.ExitCode != 7 || seenBy(&c) != v1alpha1.ReasonHook {
			t.Errorf("it was reported with exit code %s, seen by %s", exitOf(c), seenBy(&c))
		}
	}
}

// argv is a call of a runtime as a shell splits it.
func (n *node) argv(runtime string, args ...string) string {
	script := filepath.Join(n.dir, fmt.Sprintf("call-%d", made.Add(1)))
	quoted := []string{}
	for _, arg := range n.command(runtime, args...).Args {
		quoted = append(quoted, "'"+strings.ReplaceAll(arg, "'", `'\''`)+"'")
	}
	writeScript(n.t, script, strings.Join(quoted, " "))
	return script
}

// unreachable is the kubeconfig of an API server that is not there.
func (n *node) unreachable() string {
	n.t.Helper()
	name := filepath.Join(n.dir, "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": "http://%s"}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]}`, machine.FreeAddress(n.t))
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return name
}

// threads are the states of a process's threads that still have one, by proc(5).
func threads(pid int) (states []string) {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range all {
		raw, _ := os.ReadFile(file)
		if _, rest, found := strings.Cut(string(raw), ") "); found {
			states = append(states, rest[:1])
		}
	}
	return states
}

// uninterruptible reports whether a thread of a process is in uninterruptible sleep.
func uninterruptible(pid int) bool {
	for _, state := range threads(pid) {
		if state == "D" {
			return true
		}
	}
	return false
}
