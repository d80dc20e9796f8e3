package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// mainEnv has this test binary be the agent.
const mainEnv = "CONTAINERHOOK_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asNobody runs the agent to its end, with no rights.
func asNobody(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// flags has a row for each flag: its default as help prints it, and a value that must arrive in the options.
var flags = map[string]struct {
	standard, given string
	got             func(*options) any
	want            any
}{
	"standalone":           {"false", "true", func(o *options) any { return o.standalone }, true},
	"probe":                {"false", "true", func(o *options) any { return o.probe }, true},
	"output":               {"table", "wide", func(o *options) any { return o.output }, "wide"},
	"kubeconfig":           {"", "/etc/k", func(o *options) any { return o.kubeconfig }, "/etc/k"},
	"state-dir":            {"/run/containerhook", "/run/x", func(o *options) any { return o.stateDir }, "/run/x"},
	"kube-api-qps":         {"50", "7", func(o *options) any { return o.qps }, float32(7)},
	"kube-api-burst":       {"100", "8", func(o *options) any { return o.burst }, 8},
	"node-name":            {"node-7", "node-8", func(o *options) any { return o.nodeName }, "node-8"},
	"host-root":            {"/", "/./", func(o *options) any { return o.hostRoot }, "/./"},
	"runtime-path":         {"[/opt/bin/runc]", "a,/b", func(o *options) any { return o.runtimePaths }, []string{"a", "/b"}},
	"default-runtimes":     {"true", "false", func(o *options) any { return o.usualPaths }, false},
	"state-root":           {"[]", "/run/x/*,/y", func(o *options) any { return o.stateRoots }, []string{"/run/x/*", "/y"}},
	"deadline":             {"200ms", "1s", func(o *options) any { return o.deadline }, time.Second},
	"list-interval":        {"10m0s", "1s", func(o *options) any { return o.listEvery }, time.Second},
	"rootless":             {"false", "true", func(o *options) any { return o.rootless }, true},
	"max-containers":       {"2000", "7", func(o *options) any { return o.maxObjects }, 7},
	"sandboxes":            {"false", "true", func(o *options) any { return o.sandboxes }, true},
	"annotation":           {"[]", "a/b,c", func(o *options) any { return o.annotations }, []string{"a/b", "c"}},
	"metrics-bind-address": {"127.0.0.1:8080", "0", func(o *options) any { return o.metricsAddr }, "0"},
	"health-bind-address":  {"127.0.0.1:8081", "0", func(o *options) any { return o.healthAddr }, "0"},
	"verbosity":            {"0", "1", func(o *options) any { return o.verbosity }, 1},
	"version":              {"false", "true", func(o *options) any { return o.printed }, true},
}

func TestEveryFlagHasItsDefaultAndSetsItsOption(t *testing.T) {
	t.Setenv("NODE_NAME", "node-7")
	t.Setenv("RUNTIME_PATH", "/opt/bin/runc")
	known := map[string]bool{}
	newFlags(&options{}).VisitAll(func(f *pflag.Flag) {
		known[f.Name] = true
		row, ok := flags[f.Name]
		if !ok {
			t.Errorf("--%s has no row here", f.Name)
			return
		}
		if f.DefValue != row.standard {
			t.Errorf("the default of --%s is %q, not %q", f.Name, f.DefValue, row.standard)
		}

		before, err := parseOptions(nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseOptions([]string{"--" + f.Name + "=" + row.given})
		if err != nil {
			t.Errorf("--%s=%s: %v", f.Name, row.given, err)
			return
		}
		if diff := cmp.Diff(row.want, row.got(o)); diff != "" {
			t.Errorf("--%s=%s (-want +got):\n%s", f.Name, row.given, diff)
		}
		if cmp.Equal(row.want, row.got(before)) {
			t.Errorf("--%s=%s is the default: whether it is read does not show", f.Name, row.given)
		}
	})
	for name := range flags {
		if !known[name] {
			t.Errorf("there is no --%s", name)
		}
	}
}

func TestHelpHasEveryFlagAndExitCode(t *testing.T) {
	code, help, stderr := asNobody(t, "--help")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	newFlags(&options{}).VisitAll(func(f *pflag.Flag) {
		_, usage := pflag.UnquoteUsage(f)
		if usage == "" {
			t.Errorf("--%s says nothing of itself", f.Name)
		}
		if !regexp.MustCompile(`(?m)^ .*--` + f.Name + `[ \[].*` + regexp.QuoteMeta(usage)).MatchString(help) {
			t.Errorf("help has no --%s", f.Name)
		}
	})
	for _, word := range []string{"0 stopped by a signal", "1 it failed", "2 wrong flags", "3 not root"} {
		if !strings.Contains(help, word) {
			t.Errorf("help has no %q", word)
		}
	}
}

func TestVersionIsTold(t *testing.T) {
	if code, out, stderr := asNobody(t, "--version"); code != 0 || out != "agent "+version+"\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

func TestMistakesAreToldBeforeAnythingBegins(t *testing.T) {
	for args, want := range map[string]string{
		"--standalone --no-such-flag":          "no-such-flag",
		"--standalone --output xml":            `--output "xml"`,
		"--standalone --list-interval soon":    "soon",
		"--standalone some thing":              `unexpected argument "some"`,
		"--standalone --host-root /no/such/at": "there is no procfs",
	} {
		code, out, stderr := asNobody(t, strings.Fields(args)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, want) || !strings.HasSuffix(stderr, "See agent --help.\n") {
			t.Errorf("%s: exit code %d, %q, %q", args, code, out, stderr)
		}
	}
}

func TestNobodyIsNotPermitted(t *testing.T) {
	code, out, stderr := asNobody(t, "--standalone")
	if code != exitNotPermitted || out != "" || stderr != "agent: "+errNotPermitted.Error()+"\n" {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string // in the error; empty where there is none
	}{
		"the defaults":           {nil, ""},
		"every output":           {[]string{"-o", "wide"}, ""},
		"yaml":                   {[]string{"-o", "yaml"}, ""},
		"json":                   {[]string{"--output=json"}, ""},
		"no such output":         {[]string{"-o", "xml"}, "--output"},
		"two outputs":            {[]string{"-o", "table wide"}, "--output"},
		"no output":              {[]string{"-o", ""}, "--output"},
		"with a cluster":         {[]string{"--standalone=false"}, ""},
		"a relative state dir":   {[]string{"--standalone=false", "--state-dir=run"}, "--state-dir"},
		"no writes":              {[]string{"--kube-api-qps=0"}, "--kube-api-qps"},
		"no write at once":       {[]string{"--kube-api-burst=0"}, "--kube-api-burst"},
		"no name":                {[]string{"--node-name="}, "--node-name"},
		"a relative root":        {[]string{"--host-root=host"}, "--host-root"},
		"a root without procfs":  {[]string{"--host-root=/proc"}, "--host-root"},
		"the shortest deadline":  {[]string{"--deadline=1ns"}, ""},
		"no deadline":            {[]string{"--deadline=0"}, "--deadline"},
		"a negative deadline":    {[]string{"--deadline=-1s"}, "--deadline"},
		"the longest deadline":   {[]string{"--deadline=1999ms"}, ""},
		"too long a deadline":    {[]string{"--deadline=2s"}, "--deadline"},
		"the shortest interval":  {[]string{"--list-interval=1s"}, ""},
		"too short an interval":  {[]string{"--list-interval=999ms"}, "--list-interval"},
		"verbose":                {[]string{"-v", "1"}, ""},
		"a negative verbosity":   {[]string{"-v=-1"}, "--verbosity"},
		"a state root":           {[]string{"--state-root=/run/x/*,/run/y"}, ""},
		"a pattern that is none": {[]string{"--state-root=/run/[x"}, "--state-root"},
		"a relative state root":  {[]string{"--state-root=run/x"}, "--state-root"},
	} {
		_, err := parseOptions(append([]string{"--standalone"}, c.args...))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.As(err, new(usageError)) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnvironmentIsTheDefault(t *testing.T) {
	t.Setenv("NODE_NAME", "node-7")
	t.Setenv("RUNTIME_PATH", "/opt/bin/runc:my-crun")
	o, err := parseOptions([]string{"--standalone"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"node-7", "/opt/bin/runc", "my-crun"}, append([]string{o.nodeName}, o.runtimePaths...)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	o, err = parseOptions([]string{"--standalone", "--node-name", "node-8", "--runtime-path", "runc"})
	if err != nil || o.nodeName != "node-8" || len(o.runtimePaths) != 1 {
		t.Errorf("flags do not win: %+v, %v", o, err)
	}
}

// Where config/ names no argument the chart has a value: both give the same pods while it is the flag's default.
func TestTheValuesOfTheChartAreTheDefaults(t *testing.T) {
	raw, err := os.ReadFile("../../charts/containerhook/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		t.Fatal(err)
	}
	of, _ := values["agent"].(map[string]any)

	f := newFlags(&options{})
	for name, value := range map[string]string{
		"deadline":       "deadline",
		"list-interval":  "listInterval",
		"verbosity":      "verbosity",
		"rootless":       "rootless",
		"max-containers": "maxContainers",
		"sandboxes":      "sandboxes",
	} {
		flag := f.Lookup(name)
		standard := flag.Value.String()
		if err := flag.Value.Set(fmt.Sprint(of[value])); err != nil || flag.Value.String() != standard {
			t.Errorf("--%s is %s by default, the chart's %s is %v: %v", name, standard, value, of[value], err)
		}
	}
}
