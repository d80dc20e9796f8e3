package main

import (
	"fmt"
	"io"
	"maps"
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

// tally knows how each test ended, the last time that it ran.
type tally struct {
	ended  map[test]string // "pass", "fail" or "skip"
	others int             // what failed beside tests
	died   bool            // so that tests may not have run

	out     io.Writer
	verbose bool
	running map[test]string // what each test that has not ended has printed
	broken  map[string]bool // packages in which a test failed
}

func newTally(out io.Writer, verbose bool) *tally {
	return &tally{out: out, verbose: verbose, ended: map[test]string{}, running: map[test]string{}, broken: map[string]bool{}}
}

// counts are how many tests passed and were skipped, and how much failed.
func (t *tally) counts() (passed, failed, skipped int) {
	failed = t.others
	for _, how := range t.ended {
		switch how {
		case "pass":
			passed++
		case "skip":
			skipped++
		default:
			failed++
		}
	}
	return passed, failed, skipped
}

// again returns the tests to run once more, by package, without subtests: those that failed, where nothing else did and
// they are few. What many tests tell is no accident.
func (t *tally) again(most int) map[string][]string {
	all, count := map[string][]string{}, 0
	for key, how := range t.ended {
		if how == "fail" && !strings.Contains(key.name, "/") {
			all[key.pkg] = append(all[key.pkg], key.name)
			count++
		}
	}
	if t.died || t.others > 0 || count > most {
		return nil
	}
	return all
}

// forget has what a test and its subtests did be what they do the next time.
func (t *tally) forget(pkg, name string) {
	delete(t.broken, pkg)
	maps.DeleteFunc(t.ended, func(key test, _ string) bool {
		top, _, _ := strings.Cut(key.name, "/")
		return key.pkg == pkg && top == name
	})
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
		t.ended[key] = e.Action
		delete(t.running, key)
	case "skip":
		t.ended[key] = e.Action
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
	t.ended[key] = "fail"
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
				t.died = true
				t.fail(key)
			}
		}
		if !t.broken[e.Package] {
			t.others++
		}
	}
}

func (t *tally) print(s string) { _, _ = fmt.Fprint(t.out, s) }
