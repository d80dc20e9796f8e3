// Command ring runs one ring of tests and counts it:
//
//	go run ./hack/ring -name unit -- go test -json -race ./...
//
// Every test and every subtest counts as one, as `go test -v` has a line for each. It shows the output of the tests
// that failed, the reason of those that were skipped, and with -v everything; then one summary line, which it also
// appends to .cache/rings for hack/test.sh to add up.
//
// With -again N, tests that failed run once more, where they are N at most: on a real kernel, beside whatever else the
// machine does, a rare accident is not to hide what all others say. Who passes only then is told of as flaky, and
// counted: it is a defect, of the test or of what it tests.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const totals = ".cache/rings"

func main() {
	name := flag.String("name", "", "name of the ring")
	verbose := flag.Bool("v", false, "show the output of every test")
	most := flag.Int("again", 0, "run tests that failed once more, where they are at most so many")
	flag.Parse()
	if *name == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}

	t := newTally(os.Stdout, *verbose)
	err := run(t, flag.Args())
	flaky := 0
	for pkg, names := range t.again(*most) {
		fmt.Printf("ring %s: once more: %s\n", *name, strings.Join(names, " "))
		for _, name := range names {
			t.forget(pkg, name)
		}
		err = run(t, append(flag.Args(), "-run", "^("+strings.Join(names, "|")+")$"))
		flaky += len(names) - len(t.again(*most)[pkg])
	}
	_, failed, _ := t.counts()
	if err != nil && failed == 0 {
		fmt.Fprintf(os.Stderr, "ring %s: %v\n", *name, err)
		t.others++
	}
	passed, failed, skipped := t.counts()
	fmt.Printf("ring %s: %d passed, %d failed, %d skipped, %d flaky\n", *name, passed, failed, skipped, flaky)
	if err := record(*name, passed, failed, skipped, flaky); err != nil {
		fmt.Fprintf(os.Stderr, "ring %s: %v\n", *name, err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// run feeds t with what command prints. An interrupt reaches the command too, which ends by it: it is waited for, so
// that it can clean up and what ran until then is counted.
func run(t *tally, command []string) error {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)

	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %q: %w", command[0], err)
	}
	readErr := read(stdout, t)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return fmt.Errorf("run %q: %w", command[0], err)
	}
	if len(t.ended)+t.others == 0 {
		return errors.New("no test ran")
	}
	return nil
}

// read takes one event a line. What is not an event, such as a message of the go command, is shown as it is.
func read(r io.Reader, t *tally) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			t.print(string(line))
		default:
			t.add(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func record(name string, counts ...any) error {
	if err := os.MkdirAll(filepath.Dir(totals), 0o755); err != nil {
		return fmt.Errorf("record totals: %w", err)
	}
	f, err := os.OpenFile(totals, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("record totals: %w", err)
	}
	_, err = fmt.Fprintln(f, append([]any{name}, counts...)...)
	return errors.Join(err, f.Close())
}
