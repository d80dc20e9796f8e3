package e2e

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// What asks all other tests' last question must itself know right from wrong.
func TestTheCheckerFindsWhatDiffers(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	running := container{
		state: v1alpha1.StateRunning, pid: 7, namespaces: v1alpha1.ContainerNamespaces{Network: 1, PID: 2}, cgroup: 3,
		pod: v1alpha1.ContainerPod{Namespace: "shop", Name: "web", UID: "4", Container: "main"}, podMatched: isMatched, specMatched: asRequested,
	}
	stopped := container{state: v1alpha1.StateStopped, exitCode: 3, finished: time.Now()}
	unseen := container{state: v1alpha1.StateStopped, reason: v1alpha1.StopExitUnknown}
	with := func(c container, change func(*container)) container {
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		want, got map[string]container
		says      string // empty where nothing differs
	}{
		"nothing":                   {says: ""},
		"the same, running":         {want: of(running), got: of(running)},
		"the same, stopped":         {want: of(stopped), got: of(stopped)},
		"only a state is known":     {want: of(container{state: v1alpha1.StateRunning}), got: of(running)},
		"a sandbox without object":  {want: of(with(running, func(c *container) { c.sandbox = true }))},
		"a sandbox with one":        {want: of(with(running, func(c *container) { c.sandbox = true })), got: of(running)},
		"forgotten by runtimes":     {got: of(stopped)},
		"ended before the agent":    {want: of(with(stopped, func(c *container) { c.finished = began.Add(-time.Second) }))},
		"… its end was not seen":    {want: of(with(stopped, func(c *container) { c.finished = began.Add(-time.Second) })), got: of(unseen)},
		"retired":                   {want: of(with(stopped, func(c *container) { c.finished = time.Now().Add(-retention - time.Second) }))},
		"a container unseen":        {want: of(running), says: "no object"},
		"a stopped one unseen":      {want: of(stopped), says: "no object"},
		"an end unseen":             {want: of(stopped), got: of(unseen), says: "exit code 3 and in its object 0"},
		"an end not in its object":  {want: of(stopped), got: of(running), says: "state Stopped and in its object Running"},
		"another exit code":         {want: of(stopped), got: of(with(stopped, func(c *container) { c.exitCode = 4 })), says: "exit code 3"},
		"another pid":               {want: of(running), got: of(with(running, func(c *container) { c.pid = 8 })), says: "pid 7 and in its object 8"},
		"running too early":         {want: of(with(running, func(c *container) { c.state = v1alpha1.StateCreated })), got: of(running), says: "state Created"},
		"a ghost":                   {got: of(running), says: "unknown to the runtimes"},
		"another network namespace": {want: of(running), got: of(with(running, func(c *container) { c.namespaces.Network = 9 })), says: "namespaces"},
		"no namespaces":             {want: of(running), got: of(with(running, func(c *container) { c.namespaces = v1alpha1.ContainerNamespaces{} })), says: "namespaces"},
		"another cgroup":            {want: of(running), got: of(with(running, func(c *container) { c.cgroup = 9 })), says: "cgroup 3 and in its object 9"},
		"another pod":               {want: of(running), got: of(with(running, func(c *container) { c.pod.Name = "api" })), says: "pod {"},
		"another container of it":   {want: of(running), got: of(with(running, func(c *container) { c.pod.Container = "init" })), says: "pod {"},
		"a pod that is not matched": {want: of(running), got: of(with(running, func(c *container) { c.podMatched = "False PodGone" })), says: "PodMatched True Matched"},
		"no word of its pod":        {want: of(running), got: of(with(running, func(c *container) { c.podMatched = "" })), says: "PodMatched True Matched"},
		"a spec that differs":       {want: of(running), got: of(with(running, func(c *container) { c.specMatched = differs })), says: "SpecMatched True AsRequested"},
		"no word of its spec":       {want: of(running), got: of(with(running, func(c *container) { c.specMatched = "" })), says: "SpecMatched True AsRequested"},
		"drift not seen":            {want: of(with(running, func(c *container) { c.specMatched = differs })), got: of(running), says: "SpecMatched False Differs"},
	} {
		err := differences("node1", c.want, c.got, began)["id"]
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: it says %v, want %q", name, err, c.says)
		}
	}
}

// Containers of other tests come and go while agree looks. One that stays wrong must not get lost among them.
func TestTheCheckerForgetsOnlyWhatHasBeenRight(t *testing.T) {
	wrong := errors.New("wrong")
	first := still(nil, map[string]error{"stays": wrong, "late": wrong})
	second := still(first, map[string]error{"stays": wrong, "new": wrong})
	third := still(second, map[string]error{"stays": wrong, "late": wrong})
	for _, c := range []struct {
		got  map[string]error
		want []string
	}{{first, []string{"late", "stays"}}, {second, []string{"stays"}}, {third, []string{"stays"}}} {
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(c.got))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	if none := still(still(nil, map[string]error{}), map[string]error{"new": wrong}); len(none) > 0 {
		t.Errorf("%v is wrong that was not there at first", none)
	}
}

func of(c container) map[string]container { return map[string]container{"id": c} }
