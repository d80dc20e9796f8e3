package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/test/machine"
)

// probe runs the agent with --probe, and returns its checks by name, and its exit code.
func (n *node) probe(prepare func(target string, args ...string) *exec.Cmd, args ...string) (checks map[string]containerhook.Check, code int) {
	n.t.Helper()
	cmd := prepare(agentBinary, append([]string{"--probe", "--standalone", "-o", "json", "--default-runtimes=false", "--runtime-path", n.runc}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		n.t.Fatal(err)
	}
	var all []containerhook.Check
	if err := json.Unmarshal(stdout.Bytes(), &all); err != nil {
		n.t.Fatalf("%v: %s\n%s", err, stdout.String(), stderr.String())
	}
	checks = map[string]containerhook.Check{}
	for _, c := range all {
		checks[c.Name] = c
	}
	return checks, cmd.ProcessState.ExitCode()
}

// TestAProbeFindsWhatAnAgentWouldFind: as a pod, on this node, with a runtime and without.
func TestAProbeFindsWhatAnAgentWouldFind(t *testing.T) {
	n := newNode(t)
	checks, code := n.probe(machine.InPod, "--host-root", hostDir)
	for name, c := range checks {
		if c.Needed && !c.OK {
			t.Errorf("%s: %s", name, c.Detail)
		}
	}
	if c := checks["runtime "+n.runc]; code != 0 || !c.OK {
		t.Errorf("it ended with %d; the runtime: %+v", code, c)
	}

	missing := n.runc + "-missing"
	checks, code = n.probe(machine.InPod, "--host-root", hostDir, "--runtime-path", missing)
	if code != 0 || !checks["runtime "+n.runc].OK {
		t.Errorf("with one of two runtimes it ended with %d: %+v", code, checks)
	}
	n.runc = missing
	if checks, code = n.probe(machine.InPod, "--host-root", hostDir); code != 1 || checks["runtimes"].OK {
		t.Errorf("without a runtime it ended with %d: %+v", code, checks["runtimes"])
	}
}

// TestAProbeNamesTheCapabilityThatIsMissing, and what does not work for want of it.
func TestAProbeNamesTheCapabilityThatIsMissing(t *testing.T) {
	n := newNode(t)
	for capability, fails := range map[string]string{"SYS_ADMIN": "fanotify", "PERFMON": "", "SYS_PTRACE": "", "SYS_NICE": "realtime"} {
		t.Run(capability, func(t *testing.T) {
			without := func(target string, args ...string) *exec.Cmd {
				drop := "-" + strings.ToLower(capability)
				return exec.Command("setpriv", append([]string{"--bounding-set=" + drop, "--inh-caps=" + drop, target}, args...)...)
			}
			checks, code := n.probe(without)
			c := checks["capability "+capability]
			if c.OK || c.Detail != "missing" {
				t.Errorf("%+v", c)
			}
			if c.Needed != (code == 1) {
				t.Errorf("it ended with %d", code)
			}
			if fails != "" && checks[fails].OK {
				t.Errorf("%+v", checks[fails])
			}
		})
	}
}
