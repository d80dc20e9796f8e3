package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// churn is containers that come one after another, and stay.
type churn struct {
	n    *node
	stop chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex
	made []birth
	errs []error
}

// birth is when a container was made, and by what.
type birth struct {
	id, runtime string
	begin, end  time.Time
}

// newChurn makes containers with each of the runtimes, by run and by create and start in turn, until end.
func (n *node) newChurn(runtimes ...string) *churn {
	n.t.Helper()
	for _, dir := range []string{"proc", "dev", "sys"} { // two cruns at once would both make them
		if err := os.MkdirAll(filepath.Join(n.rootfs, dir), 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	c := &churn{n: n, stop: make(chan struct{})}
	for i, runtime := range runtimes {
		c.done.Go(func() {
			for turn := i; ; turn++ {
				select {
				case <-c.stop:
					return
				default:
					c.make(runtime, turn%2 == 0, n.try)
				}
			}
		})
	}
	return c
}

// make makes one container, which sleeps. first calls the runtime for the first time.
func (c *churn) make(runtime string, run bool, first func(runtime string, args ...string) error) {
	id, bundle := c.n.bundle([]string{"sleep"}, nil)
	b := birth{id: id, runtime: runtime, begin: time.Now()}
	var err error
	if run {
		err = first(runtime, "run", "--detach", "--bundle", bundle, id)
	} else if err = first(runtime, "create", "--bundle", bundle, id); err == nil {
		err = c.n.try(runtime, "start", id)
	}
	b.end = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, b)
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// end waits for the last ones and returns all.
func (c *churn) end() []birth {
	c.n.t.Helper()
	close(c.stop)
	c.done.Wait()
	if err := errors.Join(c.errs...); err != nil {
		c.n.t.Error(err)
	}
	return c.made
}

// removeAll removes containers, a few at once.
func (n *node) removeAll(births []birth) {
	var group sync.WaitGroup
	for part := range 4 {
		group.Go(func() {
			for i := part; i < len(births); i += 4 {
				if err := n.try(births[i].runtime, "delete", "--force", births[i].id); err != nil {
					n.t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// checkOnce checks that a container was told as one, which never went back.
func (a *agent) checkOnce(id string) {
	a.t.Helper()
	told := a.history(id)
	seen := map[string]bool{}
	for _, state := range strings.Split(transitions(told), " → ") {
		if seen[state] {
			a.t.Errorf("%s was told as %s", id, transitions(told))
		}
		seen[state] = true
	}
	for _, c := range told {
		if c.Name != told[0].Name {
			a.t.Errorf("%s was told as %s and as %s", id, told[0].Name, c.Name)
		}
	}
}

// layouts are state directories as engines lay them out, below a node's own /run.
var layouts = map[string]string{
	"containerd": "run/containerd/runc/k8s.io", "docker": "run/docker/runtime-runc/moby", "podman": "run/crun",
}

// globs are those of the layouts.
func (n *node) globs() string {
	return strings.Join([]string{filepath.Join(n.dir, "run/containerd/runc/*"), filepath.Join(n.dir, "run/docker/runtime-*/*"),
		filepath.Join(n.dir, "run/crun")}, ",")
}

// TestWhatRanBeforeTheAgentIsToldAsTheHookTellsIt: one agent sees containers by the hook, another one that comes later
// by the listing. They say the same, but for what only one of them can know.
func TestWhatRanBeforeTheAgentIsToldAsTheHookTellsIt(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	hooked := n.startAgent("--deadline", "1s", "--state-root", n.globs())
	type container struct{ engine, runtime, id, end string }
	var all []container
	for engine, dir := range layouts {
		n.stateRoot = filepath.Join(n.dir, dir)
		runtime := n.runc
		if engine == "podman" {
			runtime = n.crun
		}
		for _, end := range []string{"created", "running", "stopped"} {
			n := *n // whose state directory stays
			args := []string{"sleep"}
			if end == "stopped" {
				args = []string{"exit", "3"}
			}
			id, bundle := n.bundle(args, typical)
			n.remove(runtime, id)
			all = append(all, container{engine, runtime, id, end})
			if engine == "podman" {
				if out, err := bounded(limit, n.underConmon(runtime, id, bundle, "name-of-"+id)); err != nil {
					t.Fatalf("conmon: %v\n%s", err, out)
				}
			} else {
				n.must(runtime, "create", "--bundle", bundle, id)
			}
			if hooked.wait(id, v1alpha1.StateCreated); end != "created" { // conmon has only begun it
				n.must(runtime, "start", id)
			}
		}
	}
	states := map[string]v1alpha1.ContainerState{"created": v1alpha1.StateCreated, "running": v1alpha1.StateRunning,
		"stopped": v1alpha1.StateStopped}
	for _, c := range all {
		hooked.wait(c.id, states[c.end])
	}
	listed := n.startAgent("--deadline", "1s", "--state-root", n.globs())
	for _, c := range all {
		t.Run(c.engine+" "+c.end, func(t *testing.T) {
			listed.wait(c.id, states[c.end])
			want, got := last(hooked.history(c.id)), last(listed.history(c.id))
			checkSame(t, want, got)
			if len(listed.history(c.id)) != 1 {
				t.Errorf("told %d times", len(listed.history(c.id)))
			}
		})
	}
	for _, c := range all {
		if c.end != "created" {
			continue
		}
		n.stateRoot = filepath.Join(n.dir, layouts[c.engine])
		n.must(c.runtime, "start", c.id)
		for _, a := range []*agent{hooked, listed} {
			a.wait(c.id, v1alpha1.StateRunning)
		}
		n.must(c.runtime, "kill", c.id, "KILL") // it need not be ready for it
		for _, a := range []*agent{hooked, listed} {
			if end := a.wait(c.id, v1alpha1.StateStopped); end.Status.ExitCode == nil || *end.Status.ExitCode != 137 {
				t.Errorf("%s: the exit code is %s", c.id, exitOf(end))
			}
			a.checkOnce(c.id)
		}
	}
	if unseen := listed.metric("containerhook_missed_containers_total"); unseen != 0 {
		t.Errorf("%v count as missed, which were there before", unseen)
	}
	t.Logf("%d containers: the listing tells what the hook tells", len(all))
}

func last(told []v1alpha1.NodeContainer) v1alpha1.NodeContainer {
	if len(told) == 0 {
		return v1alpha1.NodeContainer{}
	}
	return told[len(told)-1]
}

// checkSame compares what the hook and a listing tell, but for who told it and what only the hook can know: when the
// user's process began; of one that is dead what it was, how it ended, and the name that its conmon knew.
func checkSame(t *testing.T, hook, listing v1alpha1.NodeContainer) {
	t.Helper()
	if seenBy(&hook) != v1alpha1.ReasonHook || seenBy(&listing) != v1alpha1.ReasonListing {
		t.Errorf("seen by %s and %s", seenBy(&hook), seenBy(&listing))
	}
	for _, c := range []*v1alpha1.NodeContainer{&hook, &listing} {
		for i := range c.Status.Conditions {
			condition := &c.Status.Conditions[i]
			condition.LastTransitionTime = metav1.Time{}
			if condition.Type == v1alpha1.ConditionObserved {
				condition.Reason = ""
			}
		}
	}
	sameTime := cmp.Comparer(func(a, b *metav1.MicroTime) bool { // the runtime's own is a little later
		return (a == nil) == (b == nil) && (a == nil || b.Sub(a.Time).Abs() < 5*time.Second)
	})
	ignored := []string{"StartTime"}
	if hook.Status.State == v1alpha1.StateStopped {
		ignored = append(ignored, "ExitCode", "Reason", "FinishTime", "CgroupID", "Namespaces", "HostNamespaces")
		hook.Spec.Name = ""
	}
	if diff := cmp.Diff(hook, listing, sameTime, cmpopts.IgnoreFields(v1alpha1.NodeContainerStatus{}, ignored...)); diff != "" {
		t.Errorf("-hook +listing:\n%s", diff)
	}
}

// TestAContainerThatStartsAsTheAgentDoesIsToldOnce: the agent is started again and again while containers come.
func TestAContainerThatStartsAsTheAgentDoesIsToldOnce(t *testing.T) {
	wanted := machine.Volume(25, 200)
	n := newNode(t)
	raced, agents, by := 0, 0, map[string]int{}
	for ; (raced < wanted || agents < 2) && agents < wanted && !t.Failed(); agents++ { // one a start, or the test is none
		t.Run(fmt.Sprintf("agent %d", agents), func(t *testing.T) {
			n := *n
			n.t = t
			coming := n.newChurn(n.runc, n.crun, n.runc, n.crun)
			begin := time.Now()
			a := n.startAgent()
			ready := time.Now()
			born := coming.end()
			defer n.removeAll(born)
			for _, b := range born {
				c := a.wait(b.id, v1alpha1.StateRunning)
				if b.end.After(begin) && b.begin.Before(ready) {
					raced++
					by[seenBy(&c)]++
				}
			}
			n.removeAll(born)
			for _, b := range born {
				if end := a.wait(b.id, v1alpha1.StateStopped); end.Status.ExitCode == nil || *end.Status.ExitCode != 137 {
					t.Errorf("%s: told as %s with exit code %s", b.id, transitions(a.history(b.id)), exitOf(end))
				}
				a.checkOnce(b.id)
			}
		})
	}
	if raced < wanted && !t.Failed() {
		t.Errorf("only %d containers started while %d agents did", raced, agents)
	}
	t.Logf("%d containers started while %d agents did: %v; none lost, none doubled, every end seen", raced, agents, by)
}

// TestTheListingFindsWhatTheHookCannotSee: made with a binary that is not marked. It counts them, and tells nothing twice.
func TestTheListingFindsWhatTheHookCannotSee(t *testing.T) {
	t.Parallel()
	invisible := machine.Volume(4, 10)
	n := newNode(t)
	copyFile(t, n.runc, filepath.Join(n.dir, "bin", "unmarked"))
	unmarked := filepath.Join(n.dir, "bin", "unmarked")
	// The state of what has stopped stays, and every listing shows it.
	end := func() string {
		id, bundle := n.bundle([]string{"exit", "3"}, nil)
		n.remove(n.runc, id)
		if code, out := n.do(n.runc, "run", "--keep", "--bundle", bundle, id); code != 3 {
			t.Fatalf("runc run: exit code %d: %s", code, out)
		}
		return id
	}
	before := end()
	a := n.startAgent("--deadline", "1s", "--list-interval", "1s")
	after := end()
	a.wait(after, v1alpha1.StateStopped)
	unseen := func() float64 { return a.metric("containerhook_missed_containers_total") }
	for i := range invisible {
		id, bundle := n.bundle([]string{"sleep"}, typical)
		n.remove(unmarked, id)
		n.must(unmarked, "create", "--bundle", bundle, id)
		c := a.wait(id, v1alpha1.StateCreated)
		if seenBy(&c) != v1alpha1.ReasonListing || c.Spec.Pod.Name != "web-0" || c.Status.PID == 0 {
			t.Errorf("seen by %s: %+v %+v", seenBy(&c), c.Spec, c.Status)
		}
		n.must(unmarked, "start", id)
		a.wait(id, v1alpha1.StateRunning)
		n.must(unmarked, "kill", id, "KILL")
		if end := a.wait(id, v1alpha1.StateStopped); end.Status.ExitCode == nil || *end.Status.ExitCode != 137 {
			t.Errorf("%s: exit code %s", id, exitOf(end))
		}
		a.checkOnce(id)
		if got := unseen(); got != float64(i+1) {
			t.Errorf("the metric says %v were missed, want %d", got, i+1)
		}
	}
	for _, id := range []string{before, after} {
		ends := 0
		for _, c := range a.history(id) {
			if c.Status.State == v1alpha1.StateStopped {
				ends++
			}
		}
		if end := last(a.history(id)).Status; ends != 1 || (end.Reason == v1alpha1.StopExitUnknown) != (id == before) {
			t.Errorf("%s: %d ends were told, of reason %s", id, ends, end.Reason)
		}
	}
	t.Logf("%d invisible containers, each told by the listing; the metric says %v; two that had stopped were told once",
		invisible, unseen())
}
