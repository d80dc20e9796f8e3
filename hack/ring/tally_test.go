package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type counts struct{ Passed, Failed, Skipped int }

// tallyOf reads the lines of a `go test -json` and returns the counts and what was shown.
func tallyOf(t *testing.T, lines string) (counts, string) {
	t.Helper()
	var out strings.Builder
	ta := newTally(&out, false)
	if err := read(strings.NewReader(lines), ta); err != nil {
		t.Fatal(err)
	}
	passed, failed, skipped := ta.counts()
	return counts{passed, failed, skipped}, out.String()
}

func TestTallyCountsEveryTestAndSubtest(t *testing.T) {
	got, _ := tallyOf(t, `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"run","Package":"p","Test":"TestC"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}`)
	if diff := cmp.Diff(counts{Passed: 2, Failed: 1, Skipped: 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTallyCountsNothingForAPackageThatPassed(t *testing.T) {
	got, _ := tallyOf(t, `{"Action":"start","Package":"p"}
{"Action":"pass","Package":"p"}`)
	if diff := cmp.Diff(counts{}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTallyCountsAPackageThatDoesNotBuildAsFailed(t *testing.T) {
	got, out := tallyOf(t, `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`)
	if diff := cmp.Diff(counts{Failed: 1}, got); diff != "" {
		t.Error(diff)
	}
	if out != "p.go:1: no\n" {
		t.Errorf("shown: %q", out)
	}
}

func TestTallyCountsTestsThatNeverEndedAsFailed(t *testing.T) {
	got, out := tallyOf(t, `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: no\n"}
{"Action":"run","Package":"q","Test":"TestB"}
{"Action":"fail","Package":"p"}`)
	if diff := cmp.Diff(counts{Failed: 1}, got); diff != "" {
		t.Error(diff)
	}
	if out != "panic: no\n" {
		t.Errorf("shown: %q", out)
	}
}

func TestTallyShowsTheReasonOfASkip(t *testing.T) {
	_, out := tallyOf(t, `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: no BTF\n"}
{"Action":"skip","Package":"p","Test":"TestA"}`)
	if out != "    a_test.go:7: no BTF\n" {
		t.Errorf("shown: %q", out)
	}
}

func TestTallyDoesNotShowTheOutputOfATestThatPassed(t *testing.T) {
	_, out := tallyOf(t, `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}`)
	if out != "" {
		t.Errorf("shown: %q", out)
	}
}

func TestRunFailsWhereNoTestRan(t *testing.T) {
	if err := run(newTally(io.Discard, false), []string{"true"}); err == nil {
		t.Error("no error")
	}
}

func TestRunFailsWhereTheCommandDoes(t *testing.T) {
	ta := newTally(io.Discard, false)
	if err := run(ta, []string{"sh", "-c", `echo '{"Action":"pass","Package":"p","Test":"TestA"}'; exit 3`}); err == nil {
		t.Error("no error")
	}
	if passed, _, _ := ta.counts(); passed != 1 {
		t.Errorf("passed: %d", passed)
	}
}

func TestWhatFailedRunsOnceMoreOnlyWhereThatMayBeAnAccident(t *testing.T) {
	const (
		passes   = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		fails    = `{"Action":"fail","Package":"p","Test":"TestB/sub"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n"
		another  = `{"Action":"fail","Package":"p","Test":"TestC"}` + "\n"
		dies     = `{"Action":"run","Package":"p","Test":"TestD"}` + "\n"
		ofItself = `{"Action":"fail","Package":"q"}` + "\n"
		ends     = `{"Action":"fail","Package":"p"}` + "\n"
	)
	for lines, want := range map[string][]string{
		passes:                          nil,
		passes + fails + ends:           {"TestB"},
		passes + fails + another + ends: nil, // too many
		passes + fails + dies + ends:    nil,
		fails + ends + ofItself:         nil,
	} {
		ta := newTally(io.Discard, false)
		if err := read(strings.NewReader(lines), ta); err != nil {
			t.Fatal(err)
		}
		if got := ta.again(1)["p"]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", lines, got, want)
		}
	}
}

func TestATestThatPassesTheSecondTimeHasPassed(t *testing.T) {
	ta := newTally(io.Discard, false)
	for _, lines := range []string{
		`{"Action":"fail","Package":"p","Test":"TestB/sub"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n" + `{"Action":"fail","Package":"p"}`,
		`{"Action":"pass","Package":"p","Test":"TestB"}`,
	} {
		ta.forget("p", "TestB")
		if err := read(strings.NewReader(lines), ta); err != nil {
			t.Fatal(err)
		}
	}
	if passed, failed, _ := ta.counts(); passed != 1 || failed != 0 {
		t.Errorf("%d passed, %d failed", passed, failed)
	}
}
