package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/internal/controller"
)

// mainEnv has this test binary be the controller.
const mainEnv = "CONTAINERHOOK_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runMain runs the controller to its end, outside of any pod.
func runMain(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{mainEnv + "=1"}
	cmd.Stdout, cmd.Stderr = &out, &errs
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
	"stopped-ttl":               {"5m0s", "0", func(o *options) any { return o.policies.StoppedTTL }, time.Duration(0)},
	"unmatched-stopped-ttl":     {"1h0m0s", "2s", func(o *options) any { return o.policies.UnmatchedStoppedTTL }, 2 * time.Second},
	"keep-stopped-per-name":     {"10", "1", func(o *options) any { return o.policies.KeepStoppedPerName }, 1},
	"max-objects":               {"100000", "2", func(o *options) any { return o.policies.MaxObjects }, 2},
	"node-gone-after":           {"1m30s", "3s", func(o *options) any { return o.policies.NodeGoneAfter }, 3 * time.Second},
	"agent-lost-after":          {"5m0s", "4s", func(o *options) any { return o.policies.AgentLostAfter }, 4 * time.Second},
	"mass-outage-percent":       {"30", "100", func(o *options) any { return o.policies.MassOutagePercent }, 100},
	"kubeconfig":                {"", "/etc/k", func(o *options) any { return o.kubeconfig }, "/etc/k"},
	"metrics-bind-address":      {":8443", "0", func(o *options) any { return o.metricsAddr }, "0"},
	"metrics-cert-dir":          {"", "/certs", func(o *options) any { return o.metricsCertDir }, "/certs"},
	"health-probe-bind-address": {":8081", "0", func(o *options) any { return o.healthAddr }, "0"},
	"leader-elect":              {"true", "false", func(o *options) any { return o.leaderElect }, false},
	"leader-elect-namespace":    {"", "hooks", func(o *options) any { return o.leaseNamespace }, "hooks"},
	"verbosity":                 {"0", "1", func(o *options) any { return o.verbosity }, 1},
	"version":                   {"false", "true", func(o *options) any { return o.printed }, true},
}

func TestEveryFlagHasItsDefaultAndSetsItsOption(t *testing.T) {
	known := map[string]bool{}
	newFlags(&options{policies: controller.DefaultOptions()}).VisitAll(func(f *pflag.Flag) {
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
	code, help, stderr := runMain(t, "--help")
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
	for _, word := range []string{"controller check --pod-uid UID", "0 stopped by a signal", "1 it failed", "2 wrong flags"} {
		if !strings.Contains(help, word) {
			t.Errorf("help has no %q", word)
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	if code, out, stderr := runMain(t, "--version"); code != 0 || out != "controller "+version+"\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for args, want := range map[string]string{ // in the error; empty where there is none
		"":                             "",
		"-v 1":                         "",
		"--verbosity=-1":               "--verbosity -1 is negative",
		"--no-such-flag":               "no-such-flag",
		"some thing":                   `unexpected argument "some"`,
		"--leader-elect=maybe":         "maybe",
		"--stopped-ttl=soon":           "soon",
		"--stopped-ttl=-1s":            "a TTL is negative",
		"--unmatched-stopped-ttl=0":    "",
		"--unmatched-stopped-ttl=-1ns": "a TTL is negative",
		"--keep-stopped-per-name=0":    "a number of objects is under 1",
		"--max-objects=1":              "",
		"--max-objects=0":              "a number of objects is under 1",
		"--max-objects=many":           "many",
		"--node-gone-after=1ns":        "",
		"--node-gone-after=0":          "a time to wait is not positive",
		"--agent-lost-after=1ns":       "",
		"--agent-lost-after=0":         "a time to wait is not positive",
		"--mass-outage-percent=0":      "",
		"--mass-outage-percent=-1":     "a percentage is not between 0 and 100",
		"--mass-outage-percent=101":    "a percentage is not between 0 and 100",
	} {
		_, err := parseOptions(strings.Fields(args))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", args, err)
		case want != "" && (!errors.As(err, new(usageError)) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", args, err)
		}
	}
}

// The code separates what another attempt may mend from what only other flags do.
func TestTheExitCodeSaysWhetherTheFlagsAreWrong(t *testing.T) {
	const seeHelp = "See controller --help.\n"
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"--no-such-flag":                     {2, "no-such-flag"},
		"--mass-outage-percent=101":          {2, "a percentage is not between 0 and 100"},
		"check":                              {2, "--pod-uid"},
		"check --timeout=soon":               {2, "soon"},
		"":                                   {1, "not in a pod, and no --kubeconfig"},
		"--kubeconfig=/no/such":              {1, `read kubeconfig "/no/such"`},
		"check --pod-uid=u":                  {1, "not in a pod, and no --kubeconfig"},
		"check --pod-uid=u --kubeconfig=/no": {1, `read kubeconfig "/no"`},
	} {
		code, out, stderr := runMain(t, strings.Fields(args)...)
		if code != want.code || out != "" || !strings.HasPrefix(stderr, "controller: ") || !strings.Contains(stderr, want.text) ||
			strings.HasSuffix(stderr, seeHelp) != (code == exitUsage) {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, stderr)
		}
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
	of, _ := values["controller"].(map[string]any)

	f := newFlags(&options{policies: controller.DefaultOptions()})
	for name, value := range map[string]string{
		"stopped-ttl":           "stoppedTTL",
		"unmatched-stopped-ttl": "unmatchedStoppedTTL",
		"keep-stopped-per-name": "keepStoppedPerName",
		"max-objects":           "maxObjects",
		"node-gone-after":       "nodeGoneAfter",
		"agent-lost-after":      "agentLostAfter",
		"mass-outage-percent":   "massOutagePercent",
		"verbosity":             "verbosity",
	} {
		flag := f.Lookup(name)
		standard := flag.Value.String()
		if err := flag.Value.Set(fmt.Sprint(of[value])); err != nil || flag.Value.String() != standard {
			t.Errorf("--%s is %s by default, the chart's %s is %v: %v", name, standard, value, of[value], err)
		}
	}
}
