package event_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/containerhook/containerhook/"

// What each side must not reach, by whatever way.
var (
	kubernetes = []string{"k8s.io", "sigs.k8s.io"}
	kernel     = []string{"github.com/cilium/ebpf", "github.com/s3rj1k/go-fanotify"}
	clients    = []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"}
	// A parser that is Kubernetes' by its name only: its dependencies are the standard library's.
	parsers = []string{"sigs.k8s.io/json"}
)

// The generated apply configurations: what is client-go's in the API is theirs, so that its types stay light.
const (
	applied       = "api/v1alpha1/applyconfiguration"
	appliedTypes  = applied + "/api/v1alpha1"
	appliedSchema = applied + "/internal"
)

// The parts of internal/containerhook.
const (
	gateway  = "internal/containerhook/gate"
	tasks    = "internal/containerhook/task"
	hostfs   = "internal/containerhook/hostfs"
	oci      = "internal/containerhook/oci"
	runtimes = "internal/containerhook/runtimes"
	tracker  = "internal/containerhook/tracker"
)

// For tests only.
const (
	golden    = "internal/golden"
	eventtest = "internal/event/eventtest"
	hosttest  = "internal/containerhook/hosttest"
)

// layers says of each package which of ours it may reach, and what it never reaches. cmd joins them, tests see all.
var layers = map[string]struct{ ours, never []string }{
	"bpf":                    {never: kubernetes},
	"internal/event":         {never: slices.Concat(kubernetes, kernel)},
	"internal/containerhook": {ours: []string{"bpf", "internal/event", gateway, tasks, hostfs, oci, runtimes, tracker}, never: kubernetes},
	gateway:                  {ours: []string{"bpf", "internal/event", tasks}, never: kubernetes},
	tasks:                    {ours: []string{"bpf", "internal/event"}, never: kubernetes},
	hostfs:                   {never: slices.Concat(kubernetes, kernel)},
	oci:                      {ours: []string{hostfs}, never: slices.Concat(kubernetes, kernel)},
	runtimes:                 {ours: []string{hostfs, oci}, never: slices.Concat(kubernetes, kernel)},
	tracker:                  {ours: []string{"internal/event"}, never: slices.Concat(kubernetes, kernel, []string{"golang.org/x/sys"})},
	hosttest:                 {never: slices.Concat(kubernetes, kernel)},
	golden:                   {never: slices.Concat(kubernetes, kernel)},
	eventtest:                {ours: []string{"internal/event"}, never: slices.Concat(kubernetes, kernel)},
	"api/v1alpha1":           {never: slices.Concat(clients, kernel)},
	applied:                  {ours: []string{"api/v1alpha1", appliedTypes, appliedSchema}, never: kernel},
	appliedTypes:             {ours: []string{"api/v1alpha1", appliedSchema}, never: kernel},
	appliedSchema:            {never: slices.Concat(clients, kernel)},
	"internal/object":        {ours: []string{"api/v1alpha1", "internal/event"}, never: slices.Concat(clients, kernel)},
	"internal/printer":       {ours: []string{"api/v1alpha1"}, never: slices.Concat(clients, kernel)},
	"internal/desired":       {ours: []string{"api/v1alpha1", "internal/event", "internal/object"}, never: slices.Concat(clients, kernel)},
	"internal/agent":         {ours: []string{"api/v1alpha1", "internal/desired", "internal/event", "internal/object"}, never: kernel},
	"internal/drift":         {ours: []string{"api/v1alpha1"}, never: slices.Concat(clients, kernel)},
	"internal/cache":         {ours: []string{"api/v1alpha1", "internal/drift"}, never: kernel},
	"internal/controller":    {ours: []string{"api/v1alpha1", appliedTypes, appliedSchema, "internal/drift", "internal/cache"}, never: kernel},
}

func TestEveryPackageKeepsToItsLayer(t *testing.T) {
	for _, pkg := range goList(t, "../../...") {
		name := strings.TrimPrefix(pkg, module)
		if top, _, _ := strings.Cut(name, "/"); slices.Contains([]string{"cmd", "docs", "examples", "hack", "test"}, top) {
			continue
		}
		layer, ok := layers[name]
		if !ok {
			t.Errorf("%s is in no layer", name)
			continue
		}
		for _, dep := range dependencies(t, pkg) {
			if ours, ok := strings.CutPrefix(dep, module); ok && !slices.Contains(layer.ours, ours) {
				t.Errorf("%s reaches %s", name, ours)
			}
			if within(dep, layer.never) && !within(dep, parsers) {
				t.Errorf("%s reaches %s", name, dep)
			}
		}
	}
}

func TestEventReachesTheStandardLibraryAndRuntimeSpecOnly(t *testing.T) {
	for _, dep := range dependencies(t, module+"internal/event") {
		if !within(dep, []string{"github.com/opencontainers/runtime-spec"}) {
			t.Errorf("internal/event reaches %s", dep)
		}
	}
}

// TestTheTrackerReadsNothing: it imports nothing by which it could read a file, ask the kernel or wait. Of what it does import
// the linter forbids the clock (forbidigo).
func TestTheTrackerReadsNothing(t *testing.T) {
	imports := goList(t, "-f", "{{range .Imports}}{{println .}}{{end}}", module+tracker)
	slices.Sort(imports)
	for _, pkg := range imports {
		if !slices.Contains([]string{"cmp", "maps", "path", "slices", "time", "github.com/opencontainers/runtime-spec/specs-go", module + "internal/event"}, pkg) {
			t.Errorf("the tracker imports %s", pkg)
		}
	}
}

// The twin of the tests above: what is reached is seen, or they could not fail.
func TestDependenciesSeeWhatIsReached(t *testing.T) {
	if deps := dependencies(t, module+"internal/containerhook"); !slices.ContainsFunc(deps, func(dep string) bool {
		return within(dep, kernel)
	}) {
		t.Errorf("internal/containerhook reaches no kernel package: %v", deps)
	}
}

// within tells whether pkg is one of the modules or below one.
func within(pkg string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return pkg == m || strings.HasPrefix(pkg, m+"/") })
}

// dependencies lists what pkg imports, and what that imports in turn, without the standard library and itself.
func dependencies(t *testing.T, pkg string) []string {
	deps := goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	return slices.DeleteFunc(deps, func(dep string) bool { return dep == pkg })
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}
