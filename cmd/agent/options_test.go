package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// agent runs it to its end, as nobody.
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

func TestHelpTellsEveryFlagAndExitCode(t *testing.T) {
	code, help, stderr := asNobody(t, "--help")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, word := range []string{"--standalone", "--output", "--node-name", "--host-root", "--runtime-path", "--default-runtimes",
		"--state-root", "--deadline", "--list-interval", "--rootless", "--sandboxes", "--annotation", "--metrics-bind-address",
		"--health-bind-address", "--verbosity", "--version", "0 stopped by a signal", "1 it failed", "2 wrong flags", "3 not root"} {
		if !strings.Contains(help, word) {
			t.Errorf("help does not tell of %q", word)
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
