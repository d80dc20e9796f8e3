package tracker

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerhook/containerhook/internal/event"
	"github.com/containerhook/containerhook/internal/golden"
)

// Each line of a script is an input (story_test.go has the words), and what was told of it stands below, indented;
// -update writes that. A blank line begins another story, with a new tracker and a new clock.
func TestTrackerFollowsItsScripts(t *testing.T) { golden.Scripts(t, "testdata/tracker", play) }

func play(t *testing.T, script string) []byte {
	var out bytes.Buffer
	s := newStory()
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "    ") {
			continue // what it was last time
		}
		out.WriteString(line)
		switch {
		case strings.TrimSpace(line) == "":
			s = newStory()
			continue
		case strings.HasPrefix(line, "#"):
			continue
		}
		in, err := s.parse(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if in == nil {
			continue
		}
		if _, asked := in.(recall); asked {
			fmt.Fprintf(&out, "    %s\n", s.recall())
			continue
		}
		events, err := s.step(in)
		for _, e := range events {
			fmt.Fprintf(&out, "    %s\n", eventLine(&e))
		}
		if s.tracker.Missed > 0 {
			fmt.Fprintf(&out, "    missed %d\n", s.tracker.Missed)
			s.tracker.Missed = 0
		}
		if err != nil {
			t.Errorf("after %q: %v", line, err)
		}
	}
	return out.Bytes()
}

// step gives in to the tracker, and checks what must hold after every step.
func (s *story) step(in Input) ([]event.Event, error) {
	events, requests := s.tracker.Step(in)
	for len(requests) > 0 { // answered at once
		more, next := s.tracker.Step(Resolved{At: s.now, Of: requests[0], Init: s.state[requests[0]], Waiting: true})
		events, requests = append(events, more...), append(requests[1:], next...)
	}
	for _, e := range events {
		was, known := s.told[e.Key()]
		switch {
		case known && was == event.Stopped:
			return events, fmt.Errorf("%s is told after its end", e.ID)
		case known && slices.Index(order, e.State) < slices.Index(order, was):
			return events, fmt.Errorf("%s goes back from %s to %s", e.ID, was, e.State)
		case known && e.Spec != nil:
			return events, fmt.Errorf("%s has its config twice", e.ID)
		case e.State == event.Stopped && (e.FinishTime.IsZero() || e.Reason == ""):
			return events, fmt.Errorf("%s ended without a time or a reason", e.ID)
		}
		s.told[e.Key()] = e.State
	}
	return events, consistent(s.tracker)
}

var order = []event.State{event.Creating, event.Created, event.Running, event.Stopped}

// consistent says where the tracker's maps disagree.
func consistent(t *Tracker) error {
	for pid, c := range t.byInit {
		if c.Init.PID != pid || c.State == event.Stopped || c.end != nil {
			return fmt.Errorf("init %d is of %s, %s, whose init is %d", pid, c.ID, c.State, c.Init.PID)
		}
	}
	for pid, c := range t.byRuntime {
		if c.runtime.PID != pid {
			return fmt.Errorf("runtime %d is of %s, whose runtime is %d", pid, c.ID, c.runtime.PID)
		}
	}
	for of, c := range t.byID {
		awaited := t.byInit[c.Init.PID] == c || t.byRuntime[c.runtime.PID] == c || t.resolving[of] == c
		if c.instance() != of || c.State != event.Stopped && !awaited {
			return fmt.Errorf("nobody waits for the end of %s, %s", c.ID, c.State)
		}
	}
	return nil
}

// eventLine is an event in one line.
func eventLine(e *event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s init=%s created=%s", e.ID, e.State, pidWord(e.Init), clock(e.CreateTime))
	for _, f := range []struct {
		format string
		value  any
		set    bool
	}{
		{" %s", event.FromListing, e.Source == event.FromListing},
		{" %s", "config", e.Spec != nil},
		{" started=%s", clock(e.StartTime), !e.StartTime.IsZero()},
		{" finished=%s", clock(e.FinishTime), !e.FinishTime.IsZero()},
		{" %s", e.Reason, e.Reason != ""},
		{" %s", "oom", e.OOMKilled},
		{" %s", "rootless", e.Rootless},
		{" signal=%d", e.Signal, e.Signal != 0},
		{" name=%s", e.Name, e.Name != ""},
		{" root=%s", e.Runtime.Root, e.Runtime.Root != "/run/runc"},
		{" cgroup=%d", e.Init.CgroupID, e.Init.CgroupID != 0},
		{" problem=%q", e.Problem, e.Problem != ""},
	} {
		if f.set {
			fmt.Fprintf(&b, f.format, f.value)
		}
	}
	if e.ExitCode != nil {
		fmt.Fprintf(&b, " exit=%d", *e.ExitCode)
	}
	return b.String()
}

func clock(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Sub(epoch).String()
}
