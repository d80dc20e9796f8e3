package api

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerhook/containerhook/internal/golden"
)

// TestQuestionsAreAnsweredAsTheirPageSays runs each command of docs/questions.md, and compares what it prints.
func TestQuestionsAreAnsweredAsTheirPageSays(t *testing.T) {
	const page, objects = "../../docs/questions.md", "testdata/questions.yaml"
	for _, flags := range [][]string{nil, {"--subresource=status"}} {
		kubectl(t, append(flags, "apply", "--server-side", "-f", objects)...)
	}
	t.Cleanup(func() { kubectl(t, "delete", "--ignore-not-found", "-f", objects) })

	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var answered strings.Builder
	asked, inBlock := 0, false
	for line := range strings.Lines(string(raw)) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case line == "```console\n":
			inBlock = true
		case line == "```\n":
			inBlock = false
		case inBlock && !isCommand: // what the page says that is printed
			continue
		}
		answered.WriteString(line)
		if inBlock && isCommand {
			asked++
			answered.WriteString(shell(t, command))
		}
	}
	if asked < 10 {
		t.Fatalf("%d questions are asked", asked)
	}
	golden.Check(t, page, []byte(answered.String()))
}

// shell runs a line that calls kubectl, as a user's shell does.
func shell(t *testing.T, line string) string {
	t.Helper()
	kubectl, err := plane.KubectlCommand(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-o", "pipefail", "-ec", line)
	cmd.Env = append(kubectl.Env, "PATH="+filepath.Dir(kubectl.Path)+":"+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 || len(out) == 0 {
		t.Errorf("%s: %v: %q: %s", line, err, out, stderr.String())
	}
	return string(out)
}
