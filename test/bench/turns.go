package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// candidate is one of those that take turns.
type candidate struct {
	name   string
	inside []string                   // goes before its command line
	argv   func(process int) []string // the commands for one of the processes that run at once; "ID" becomes a new name
	turns  [][]time.Duration          // how long they took, each time, by turn
}

// life is the candidate that makes, starts and deletes a container.
func (p *place) life(v variant, runtime string, atOnce int) (*candidate, error) {
	bundles := make([]string, atOnce)
	for i := range bundles {
		var err error
		if bundles[i], err = p.bundle("life-" + strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return &candidate{name: "held by " + string(v), inside: inside(runtime), argv: func(process int) []string {
		return slices.Concat(p.runtime(v, runtime, "create", "--bundle", bundles[process], "ID", ";"),
			p.runtime(v, runtime, "start", "ID", ";"), p.runtime(v, runtime, "delete", "--force", "ID"))
	}}, nil
}

// takeTurns has each candidate run its commands count times, in as many processes at once; then again, for some rounds,
// in another order: what one leaves to be done is not always the same one's burden.
func (p *place) takeTurns(rounds, atOnce, count int, candidates ...*candidate) error {
	for range rounds {
		for _, i := range rand.Perm(len(candidates)) {
			c := candidates[i]
			turn, err := p.turn(c, atOnce, count)
			if err != nil {
				return err
			}
			c.turns = append(c.turns, turn)
		}
	}
	return nil
}

func (p *place) turn(c *candidate, atOnce, count int) (turn []time.Duration, err error) {
	cmds, said := make([]*exec.Cmd, atOnce), make([]bytes.Buffer, atOnce)
	for i := range cmds {
		prefix := fmt.Sprintf("%s-%d-", p.name(), i)
		cmds[i] = p.command(slices.Concat(c.inside, []string{p.dir + "/spawn", strconv.Itoa(count), prefix}, c.argv(i))...)
		cmds[i].Stdout = &said[i]
		if err := cmds[i].Start(); err != nil {
			return nil, err // the others end with us
		}
	}
	for i, cmd := range cmds {
		if waitErr := cmd.Wait(); waitErr != nil && err == nil {
			err = p.explain(cmd, waitErr)
		}
		for took := range strings.FieldsSeq(said[i].String()) {
			ns, _ := strconv.ParseInt(took, 10, 64)
			turn = append(turn, time.Duration(ns))
		}
	}
	return turn, err
}

// quantile of all times that c took.
func (c *candidate) quantile(q float64) time.Duration { return quantile(slices.Concat(c.turns...), q) }

func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}

// compare prints what all candidates took, and what they added to the first.
func compare(title string, all ...*candidate) {
	fmt.Printf("\n%-36s %8s %8s %21s %9s %9s  (ms)\n", title, "median", "p99", "quartiles of turns", "added", "to p99")
	for i, c := range all {
		var medians []time.Duration
		for _, turn := range c.turns {
			medians = append(medians, quantile(turn, 0.5))
		}
		fmt.Printf("  %-34s %8.3f %8.3f %10.3f - %8.3f", c.name, ms(c.quantile(0.5)), ms(c.quantile(0.99)),
			ms(quantile(medians, 0.25)), ms(quantile(medians, 0.75)))
		if i > 0 {
			fmt.Printf(" %+9.3f %+9.3f", ms(c.quantile(0.5)-all[0].quantile(0.5)), ms(c.quantile(0.99)-all[0].quantile(0.99)))
		}
		fmt.Println()
	}
}

// goals prints how what each of ours adds compares with what the least adds.
func goals(base, least *candidate, ours ...*candidate) {
	for _, c := range ours {
		times := func(q float64) float64 {
			return float64(c.quantile(q)-base.quantile(q)) / float64(least.quantile(q)-base.quantile(q))
		}
		fmt.Printf("  %s: %.2f × the empty responder's time (goal 1.25: %s), p99 %.2f × (goal 1.5: %s)\n",
			c.name, times(0.5), met(times(0.5) <= 1.25), times(0.99), met(times(0.99) <= 1.5))
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func met(yes bool) string {
	if yes {
		return "met"
	}
	return "missed"
}
