package kernel

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

const workers = 8

// inParallel calls do with 0 to count-1 from 8 workers.
func inParallel(count int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

func TestContainersMadeAtOnceAreEachReportedOnceWithTheirExitCode(t *testing.T) {
	count := machine.Volume(200, 1000)
	n := newNode(t)
	a := n.startAgent("--deadline", "1s") // what a busy machine makes late is another test's matter
	runtimes := []string{n.runc, n.crun}
	type want struct {
		runtime, bundle string
		code            int
	}
	wanted := map[string]want{}
	ids := make([]string, count)
	for i := range count {
		code := rand.IntN(256)
		id, bundle := n.bundle([]string{"exit", strconv.Itoa(code)}, nil)
		ids[i], wanted[id] = id, want{runtimes[i%2], bundle, code}
	}
	inParallel(count, func(i int) {
		id, w := ids[i], wanted[ids[i]]
		if i%4 < 2 {
			checkEnd(t, n, n.command(w.runtime, "run", "--bundle", w.bundle, id), w.code)
			return
		}
		checkEnd(t, n, n.command(w.runtime, "create", "--bundle", w.bundle, id), 0)
		checkEnd(t, n, n.command(w.runtime, "start", id), 0)

		if err := poll(limit, func() error {
			if told := a.history(id); last(told).Status.State != v1alpha1.StateStopped {
				return fmt.Errorf("%s was reported as %s", id, states(told))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		checkEnd(t, n, n.command(w.runtime, "delete", id), 0)
	})
	if t.Failed() {
		return // what follows would wait for each container that was not made
	}
	lost, doubled, mismatched := 0, 0, 0
	for id, w := range wanted {
		a.wait(id, v1alpha1.StateStopped)
		told := a.history(id)
		last := told[len(told)-1]
		names := map[string]bool{}
		for _, c := range told {
			names[c.Name] = true
		}
		switch {
		case len(names) != 1 || entered(told, v1alpha1.StateStopped) != 1 || entered(told, v1alpha1.StateRunning) != 1:
			doubled++
			t.Errorf("%s was told as %s, under %d names", id, states(told), len(names))
		case last.Status.ExitCode == nil || int(*last.Status.ExitCode) != w.code || last.Spec.Bundle != w.bundle ||
			last.Spec.Runtime.Name != filepath.Base(w.runtime):
			mismatched++
			t.Errorf("%s: exit code %s in %s by %s, want %+v", id, exitOf(last), last.Spec.Bundle, last.Spec.Runtime.Name, w)
		}
	}
	if missed := a.metric("containerhook_missed_containers_total"); missed != 0 {
		t.Errorf("%v containers were only found by a listing", missed)
	}
	t.Logf("%d containers from %d workers, runc and crun: %d lost, %d doubled, %d mismatched; %v late answers", count, workers,
		lost, doubled, mismatched, a.metric("containerhook_deadline_exceeded_total"))
}

// entered is how often a state was entered.
func entered(told []v1alpha1.NodeContainer, state v1alpha1.ContainerState) int {
	n := 0
	for i, c := range told {
		if c.Status.State == state && (i == 0 || told[i-1].Status.State != state) {
			n++
		}
	}
	return n
}

// checkEnd is mustEnd for other goroutines than the test's.
func checkEnd(t *testing.T, n *node, cmd *exec.Cmd, code int) {
	t.Helper()
	got, out, err := n.end(cmd)
	if err != nil || got != code {
		t.Errorf("%.200q ended with %d, not %d: %v\n%s", cmd.Args, got, code, err, lastOf(out))
	}
}

// TestEveryExecIsHeldWithItsOwnArguments: each exec of the marked probe claims to create a container of a name and bundle
// of its own, and fails with 99; so each must be reported once, as exactly that failed create.
func TestEveryExecIsHeldWithItsOwnArguments(t *testing.T) {
	count := machine.Volume(5_000, 100_000)
	n := newNode(t)
	a := n.startAgent("--deadline", "1s")
	began := time.Now()
	var denied atomic.Int64
	inParallel(count, func(i int) {
		id := fmt.Sprintf("%s-x%d", idPrefix(), i)
		cmd := exec.Command(n.marked, "create", "--bundle", "/nowhere/"+id, id) // 99: the probe knows no create
		if out, err := bounded(limit, cmd); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != refused {
			denied.Add(1)
			t.Logf("the exec for %s: %v: %s", id, err, out)
		}
	})
	took := time.Since(began)
	if denied := denied.Load(); denied > 0 {
		t.Fatalf("%d of %d execs did not run", denied, count)
	}

	lost, doubled, mismatched := 0, 0, 0
	end := time.Now().Add(limit) // for all of them: the agent reports each when it ends
	for i := range count {
		id := fmt.Sprintf("%s-x%d", idPrefix(), i)
		_ = poll(time.Until(end), func() error {
			if len(a.history(id)) == 0 {
				return fmt.Errorf("%s was not told", id)
			}
			return nil
		})
		told := a.history(id)
		switch {
		case len(told) == 0:
			lost++
		case len(told) > 1:
			doubled++
		case told[0].Spec.Bundle != "/nowhere/"+id || told[0].Status.ExitCode == nil || *told[0].Status.ExitCode != 99 ||
			told[0].Status.Reason != v1alpha1.StopCreateFailed:
			mismatched++
		}
	}
	t.Logf("%d execs, %.0f a second: %d lost, %d doubled, %d mismatched", count, float64(count)/took.Seconds(), lost, doubled, mismatched)
	if lost+doubled+mismatched > 0 {
		t.Fail()
	}
}
