package main

import (
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json`: see `go doc test2json` and `go help buildjson`.
type event struct {
	Action  string
	Package string
	Test    string // empty for events of the package
	Output  string
}

type test struct{ pkg, name string }

// tally counts tests by how they ended.
type tally struct {
	passed, failed, skipped int

	out     io.Writer
	verbose bool
	running map[test]string // what each test that has not ended has printed
	broken  map[string]bool // packages in which a test failed
}

func newTally(out io.Writer, verbose bool) *tally {
	return &tally{out: out, verbose: verbose, running: map[test]string{}, broken: map[string]bool{}}
}

func (t *tally) add(e event) {
	if e.Test == "" {
		t.addPackage(e)
		return
	}
	key := test{e.Package, e.Test}
	switch e.Action {
	case "run":
		t.running[key] = ""
	case "output":
		t.addOutput(key, e.Output)
	case "pass":
		t.passed++
		delete(t.running, key)
	case "skip":
		t.skipped++
		t.print(t.running[key])
		delete(t.running, key)
	case "fail":
		t.fail(key)
	}
}

func (t *tally) addOutput(key test, output string) {
	switch {
	case strings.HasPrefix(output, "=== "): // RUN, PAUSE, CONT, NAME
	case t.verbose:
		t.print(output)
	default:
		t.running[key] += output
	}
}

func (t *tally) fail(key test) {
	t.failed++
	t.broken[key.pkg] = true
	t.print(t.running[key])
	delete(t.running, key)
}

// addPackage counts what no test of the package tells of: those that were running when it died of a panic, a signal or
// its time, and a package that failed by itself, because it did not build or because TestMain found something left.
func (t *tally) addPackage(e event) {
	switch e.Action {
	case "output", "build-output":
		if e.Output != "PASS\n" && !strings.HasSuffix(e.Output, "[no test files]\n") {
			t.print(e.Output)
		}
	case "fail":
		for key := range t.running {
			if key.pkg == e.Package {
				t.fail(key)
			}
		}
		if !t.broken[e.Package] {
			t.failed++
		}
	}
}

func (t *tally) print(s string) { _, _ = fmt.Fprint(t.out, s) }
