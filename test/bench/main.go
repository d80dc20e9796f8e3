// Command bench measures what the agent costs: execs that it holds and execs that it does not, whole containers, and
// itself. The floor is a responder that allows every exec at once (c/responder.c). All variants take turns in one run: a
// busy machine is as busy for each.
//
// Everything is private (copies of the runtimes, bundles, state) and gone when the command ends, by SIGINT too. It is run
// as root from the module's own directory, and needs gcc, runc and crun.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	agentPath  = flag.String("agent", "bin/agent", "the agent to measure")
	beforePath = flag.String("before", "", "another build of it, which takes its turns too; empty for none")
	rounds     = flag.Int("rounds", 200, "turns that each variant of an exec takes")
	lifeRounds = flag.Int("lives", 40, "turns that each variant of a container's life takes")
	containers = flag.Int("containers", 250, "containers that are there while the idle agent is watched")
	idle       = flag.Duration("idle", 20*time.Second, "how long it is watched")
)

const (
	// settle is how long the agent is left alone before execs are measured beside it.
	settle = time.Second
	// settleIdle is the same before it is watched itself: it lists the node once more, ten seconds after it began.
	settleIdle = 12 * time.Second
)

// atOnce are the numbers of processes that execute at once.
var atOnce = []int{1, 8}

func main() {
	// What is started here is killed when the thread ends that started it (Pdeathsig): main keeps its own.
	runtime.LockOSThread()
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) //nolint:forbidigo // this is main
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	p := &place{ctx: ctx}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.furnish(); err != nil {
		return err
	}
	if err := unrelated(p); err != nil {
		return err
	}
	pids, stop, err := p.startAgent(ours)
	if err != nil {
		return err
	}
	defer stop()
	if err := itself(p, pids); err != nil {
		return err
	}
	agents := map[variant][]int{ours: pids}
	if *beforePath != "" {
		before, stopBefore, err := p.startAgent(earlier)
		if err != nil {
			return err
		}
		defer stopBefore()
		agents[earlier] = before
	}
	_, stopFloor, err := p.startFloor()
	if err != nil {
		return err
	}
	defer stopFloor()
	if err := execs(p); err != nil {
		return err
	}
	return lives(p, agents)
}

// unrelated compares execs of a program that nobody has marked, with and without the agent.
func unrelated(p *place) error {
	argv := func(int) []string { return []string{p.bin(free, "tiny")} }
	without, with := &candidate{name: "without the agent", argv: argv}, &candidate{name: "with the agent", argv: argv}
	for range *lifeRounds {
		if err := p.takeTurns(1, 1, 200, without); err != nil {
			return err
		}
		_, stop, err := p.startAgent(ours)
		if err != nil {
			return err
		}
		if err = p.wait(settle); err == nil {
			err = p.takeTurns(1, 1, 200, with)
		}
		stop()
		if err != nil {
			return err
		}
	}
	compare("exec of what is not marked", without, with)
	ratio := float64(with.quantile(0.5)) / float64(without.quantile(0.5))
	fmt.Printf("  %.2f × (goal 1.03: %s)\n", ratio, met(ratio <= 1.03))
	return nil
}

// execs compares those of one small static program that nobody, the empty responder or the agent holds.
func execs(p *place) error {
	bundle, err := p.bundle("exec")
	if err != nil {
		return err
	}
	exec := func(name string, v variant, args ...string) *candidate {
		return &candidate{name: name, argv: func(int) []string { return append([]string{p.bin(v, "tiny")}, args...) }}
	}
	for _, n := range atOnce {
		all := []*candidate{exec("held by nobody", free, "state", "ID"), exec("by the empty responder", floor, "state", "ID"),
			exec("by the agent: state", ours, "state", "ID"), exec("by the agent: create", ours, "create", "--bundle", bundle, "ID")}
		if *beforePath != "" {
			all = append(all, exec("by the one before: state", earlier, "state", "ID"),
				exec("by the one before: create", earlier, "create", "--bundle", bundle, "ID"))
		}
		if err := p.takeTurns(*rounds, n, 25, all...); err != nil {
			return err
		}
		compare(fmt.Sprintf("exec, %d at once", n), all...)
		goals(all[0], all[1], all[2:]...)
	}
	return nil
}

// lives compares whole containers, and prints the CPU time that each agent needed for one.
func lives(p *place, agents map[variant][]int) error {
	for _, runtime := range []string{"runc", "crun"} {
		for _, n := range atOnce {
			var all []*candidate
			for _, v := range []variant{free, floor, ours, earlier} {
				if v == earlier && agents[v] == nil {
					continue
				}
				c, err := p.life(v, runtime, n)
				if err != nil {
					return err
				}
				all = append(all, c)
			}
			if err := p.takeTurns(*lifeRounds, n, 2, all...); err != nil {
				return err
			}
			compare(fmt.Sprintf("%s create+start+delete, %d at once", runtime, n), all...)
		}
		for v, agent := range agents {
			c, err := p.life(v, runtime, 1)
			if err != nil {
				return err
			}
			before, count := cpuTime(agent), 2**lifeRounds
			if err := p.takeTurns(1, 1, count, c); err != nil {
				return err
			}
			fmt.Printf("  %s's CPU time for one: %.2f ms\n", v, ms((cpuTime(agent)-before)/time.Duration(count)))
		}
	}
	return nil
}

// itself is what the agent takes while nothing happens, without containers and with many.
func itself(p *place, agent []int) error {
	fmt.Println("\nthe agent, idle")
	if err := watch(p, agent, 0); err != nil {
		return err
	}
	for i := range *containers {
		name := "idle-" + strconv.Itoa(i)
		bundle, err := p.bundle(name, "sleep")
		if err != nil {
			return err
		}
		if err := p.run(p.runtime(ours, "runc", "run", "--detach", "--bundle", bundle, p.name()+"-"+name)...); err != nil {
			return err
		}
	}
	if err := watch(p, agent, *containers); err != nil {
		return err
	}
	return p.removeContainers()
}

func watch(p *place, agent []int, containers int) error {
	if err := p.wait(settleIdle); err != nil {
		return err
	}
	before := cpuTime(agent)
	if err := p.wait(*idle); err != nil {
		return err
	}
	share := 100 * float64(cpuTime(agent)-before) / float64(*idle)
	var all []string
	sum := 0.0
	for _, pid := range agent {
		sum += pss(pid)
		all = append(all, fmt.Sprintf("%.1f", pss(pid)))
	}
	fmt.Printf("  %3d containers: %.3f %% of a core (goal 0.1: %s); resident, shared pages once: %s = %.1f MiB (goal 35: %s)\n",
		containers, share, met(share < 0.1), strings.Join(all, " + "), sum, met(sum <= 35))
	return nil
}

// cpuTime is what processes have run for, with all their threads: clock_getcpuclockid(3) makes a clock of a pid so.
func cpuTime(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &t); err == nil {
			sum += time.Duration(t.Nano())
		}
	}
	return sum
}

// pss is a process's resident memory in MiB, pages that several processes have by their share (proc(5), smaps_rollup).
func pss(pid int) float64 {
	rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	_, after, found := strings.Cut(string(rollup), "Pss:")
	if !found {
		return 0
	}
	kib, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
	return kib / 1024
}
