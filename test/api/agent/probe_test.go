package agent

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerhook/containerhook/internal/containerhook"
	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// TestAProbeAsksTheAPIForWhatAnAgentNeeds: the CRDs and its rights, with the token of an agent, and with one that has none.
func TestAProbeAsksTheAPIForWhatAnAgentNeeds(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	stranger := filepath.Join(n.dir, "stranger.kubeconfig")
	config, err := plane.PodClient(t.Context(), "containerhook-system", "default", n.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := controlplane.WriteKubeconfig(stranger, config); err != nil {
		t.Fatal(err)
	}
	for kubeconfig, allowed := range map[string]bool{n.direct: true, stranger: false} {
		cmd := machine.InPod(agentBinary, "--probe", "-o", "json", "--kubeconfig", kubeconfig, "--host-root", machine.HostDir,
			"--default-runtimes=false", "--runtime-path", n.runc)
		out, err := cmd.Output()
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		var checks []containerhook.Check
		if err := json.Unmarshal(out, &checks); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		found := 0
		for _, c := range checks {
			switch c.Name {
			case "API server", "CRDs":
				found++
				if !c.OK {
					t.Errorf("%+v", c)
				}
			case "create nodecontainers", "patch nodecontainers", "create nodecontaineragents", "patch nodecontaineragents":
				found++
				if c.OK != allowed {
					t.Errorf("%+v, want %t", c, allowed)
				}
			}
		}
		if code := cmd.ProcessState.ExitCode(); found != 6 || (code == 0) != allowed {
			t.Errorf("%d checks of the API, exit code %d, allowed %t", found, code, allowed)
		}
	}
}
