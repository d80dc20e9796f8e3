package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// What asks all other tests' last question must itself know right from wrong.
func TestTheCheckerFindsWhatDiffers(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	running := container{state: v1alpha1.StateRunning, pid: 7}
	stopped := container{state: v1alpha1.StateStopped, exitCode: 3, finished: time.Now()}
	unseen := container{state: v1alpha1.StateStopped, reason: v1alpha1.StopExitUnseen}
	with := func(c container, change func(*container)) container {
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		want, got map[string]container
		says      string // empty where nothing differs
	}{
		"nothing":                 {says: ""},
		"the same, running":       {want: of(running), got: of(running)},
		"the same, stopped":       {want: of(stopped), got: of(stopped)},
		"a pid nobody knows":      {want: of(with(running, func(c *container) { c.pid = 0 })), got: of(running)},
		"a sandbox not told of":   {want: of(with(running, func(c *container) { c.sandbox = true }))},
		"a sandbox that is":       {want: of(with(running, func(c *container) { c.sandbox = true })), got: of(running)},
		"forgotten by runtimes":   {got: of(stopped)},
		"ended before the agent":  {want: of(with(stopped, func(c *container) { c.finished = began.Add(-time.Second) }))},
		"… its end was not seen":  {want: of(with(stopped, func(c *container) { c.finished = began.Add(-time.Second) })), got: of(unseen)},
		"retired":                 {want: of(with(stopped, func(c *container) { c.finished = time.Now().Add(-retention - time.Second) }))},
		"a container unseen":      {want: of(running), says: "no object"},
		"a stopped one unseen":    {want: of(stopped), says: "no object"},
		"an end unseen":           {want: of(stopped), got: of(unseen), says: "exit code 3"},
		"an end that is not told": {want: of(stopped), got: of(running), says: "its object says Running"},
		"another exit code":       {want: of(stopped), got: of(with(stopped, func(c *container) { c.exitCode = 4 })), says: "exit code 4"},
		"another pid":             {want: of(running), got: of(with(running, func(c *container) { c.pid = 8 })), says: "pid 8"},
		"told too early":          {want: of(with(running, func(c *container) { c.state = v1alpha1.StateCreated })), got: of(running), says: "is Created"},
		"a ghost":                 {got: of(running), says: "unknown to the runtimes"},
	} {
		got := errors.Join(differences("node1", c.want, c.got, began)...)
		if c.says == "" && got != nil || c.says != "" && (got == nil || !strings.Contains(got.Error(), c.says)) {
			t.Errorf("%s: it says %v, want %q", name, got, c.says)
		}
	}
}

func of(c container) map[string]container { return map[string]container{"id": c} }
