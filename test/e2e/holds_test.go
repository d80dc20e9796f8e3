package e2e

import (
	"bufio"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// longestHold is how long an exec of a runtime may take, whatever becomes of the agent: it is held for 2 s at most. What is
// more is for a busy machine.
const longestHold = 3 * time.Second

// execScript executes a node's runtime again and again until its input ends, and prints how many microseconds each took.
const execScript = `runtime=$(command -v "$(cat "$0")") || exit
while read -r -t 0.05; [ $? -gt 128 ]; do # a timeout, not the end
  before=${EPOCHREALTIME/./}
  "$runtime" --version >/dev/null || exit
  echo $((${EPOCHREALTIME/./} - before))
done`

// execs measures execs of a node's runtime from now on. The returned function ends that, fails the test where one took
// too long, and returns the longest.
func execs(t *testing.T, node string) (longest func() time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../cluster/cluster.sh", "exec", node, "bash", "-c", execScript, filepath.Join(clusterDir, "runtime"))
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	var took []time.Duration
	read := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(output)
		var wrong error
		for lines.Scan() {
			micros, err := strconv.Atoi(lines.Text())
			wrong = errors.Join(wrong, err)
			took = append(took, time.Duration(micros)*time.Microsecond)
		}
		read <- errors.Join(wrong, lines.Err())
	}()
	end := sync.OnceValue(func() error {
		return errors.Join(input.Close(), <-read, cmd.Wait())
	})
	t.Cleanup(func() { _ = end() }) // where the test fails before

	return func() time.Duration {
		t.Helper()
		if err := end(); err != nil {
			t.Fatalf("execute the runtime on %s: %v: %s", node, err, errs.String())
		}
		if len(took) == 0 {
			t.Fatalf("no exec of the runtime ended on %s", node)
		}
		longest := slices.Max(took)
		t.Logf("%d execs of the runtime on %s took %v at most", len(took), node, longest.Round(time.Millisecond))
		if longest > longestHold {
			t.Errorf("an exec of the runtime on %s took %v, more than %v", node, longest, longestHold)
		}
		return longest
	}
}
