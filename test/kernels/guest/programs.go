package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// version is the first two numbers of a release.
type version struct{ major, minor int }

// from says whether a release is at least that of this architecture.
func from(release string, first map[string]version) bool {
	var v version
	_, _ = fmt.Sscanf(release, "%d.%d", &v.major, &v.minor) // 0.0 for what is no release
	at := first[runtime.GOARCH]
	return v.major > at.major || v.major == at.major && v.minor >= at.minor
}

// loadedFrom checks that a BPF program is loaded where the kernel is new enough, and not where it cannot be.
func loadedFrom(release, program string, first map[string]version) error {
	loaded := false
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return differ(program+" is loaded:", loaded, from(release, first))
		}
		if err != nil {
			return fmt.Errorf("list the programs: %w", err)
		}
		p, err := ebpf.NewProgramFromID(next)
		if err != nil {
			return fmt.Errorf("open program %d: %w", next, err)
		}
		info, err := p.Info()
		p.Close()
		if err != nil {
			return fmt.Errorf("read the name of program %d: %w", next, err)
		}
		loaded = loaded || info.Name == program
		id = next
	}
}

var (
	// quiet are arguments of which none names a container.
	quiet = [][]string{
		{}, {"state", "x"}, {"--root", "/x", "--log-format", "json", "kill", "x", "9"}, {"--systemd-cgroup", "exec", "--process", "/p", "x"},
		{"features"}, {"--version"}, {"list"}, {""}, {"-"}, {"--"}, {"creates"}, {"re-create", "x"}, {"xrun", "x"}, {"Create"},
		slices.Repeat([]string{"state"}, 30),
	}
	// naming are arguments that a worker has to look at.
	naming = [][]string{
		{"create", "x"}, {"--root", "/x", "run", "x"}, {"restore", "x"}, {"start", "x"}, {"delete", "--force", "x"},
		{"--cid", "x"}, {"--cid=x"}, {"-s", "-c", "x"}, {"-sc", "x"}, slices.Repeat([]string{"state"}, 40),
	}
)

// filters has a worker stopped: nobody waits for it but who may name a container.
func (a *agent) filters() error {
	worker, err := a.worker()
	if err != nil {
		return fmt.Errorf("find the worker: %w", err)
	}
	_ = a.history("x") // is what one of them may be published as
	for i, args := range naming {
		if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("stop the worker: %w", err)
		}
		var longest time.Duration
		if i == 0 {
			for _, none := range quiet {
				longest = max(longest, execTime(none))
			}
		}
		took := execTime(args)
		if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
			return fmt.Errorf("continue the worker: %w", err)
		}
		if longest > deadline {
			return fmt.Errorf("what names no container waited for %v", longest)
		}
		if took < deadline { // the gate had given the worker up before, or did not ask it
			return fmt.Errorf("%q waited for %v, and not for the worker", args, took)
		}
		if err := eventually(func() error {
			if took := execTime([]string{"start", "x"}); took > deadline {
				return fmt.Errorf("an exec took %v", took)
			}
			return ready()
		}); err != nil {
			return err
		}
	}
	now, err := a.worker()
	return errors.Join(err, differ("the worker", now, worker))
}

// compareWays prints what one exec takes that is held by nobody, whose arguments the gate judges, and whose the worker does,
// in turn. For the last one an argument is enough that might be an option of conmon's.
func compareWays() {
	const rounds = 200
	ways := [...]struct {
		what string
		cmd  []string
		took []time.Duration
	}{{what: "held by nobody", cmd: []string{rootfs + "/probe", "state"}}, {what: "judged by the gate", cmd: []string{marked, "state"}},
		{what: "judged by the worker", cmd: []string{marked, "state", "-c"}}}
	for range rounds {
		for i := range ways {
			began := time.Now()
			_ = exec.Command(ways[i].cmd[0], ways[i].cmd[1:]...).Run()
			ways[i].took = append(ways[i].took, time.Since(began))
		}
	}
	fmt.Print("     an exec, median:")
	for _, way := range ways {
		slices.Sort(way.took)
		fmt.Printf(" %s %.2f ms;", way.what, float64(way.took[rounds/2].Microseconds())/1000)
	}
	fmt.Println()
}

// execTime is how long one exec of the marked program takes. What it says to its arguments is its own affair.
func execTime(args []string) time.Duration {
	began := time.Now()
	_ = exec.Command(marked, args...).Run()
	return time.Since(began)
}
