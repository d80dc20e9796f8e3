#!/usr/bin/env bash
# Usage: hack/suite.sh SUITE ARGUMENT of go test...
# Runs one suite of tests with gotestsum and counts it: every test and every subtest is one, a package that does not
# build or whose TestMain fails is one that failed, and a suite in which no test ran has failed. It shows the output of the
# tests that failed and the reason of those that were skipped. All of it stays in .cache/suites/SUITE.json:
# `bin/gotestsum/gotestsum tool slowest --jsonfile .cache/suites/SUITE.json` has the slow tests.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
suite=$1
shift
json=.cache/suites/$suite.json
mkdir -p .cache/suites
rm -f ".cache/suites/$suite".{json,failed,counts,skips}

# An interrupt reaches gotestsum and the tests too. It waits for them to clean up, and what ran until then is counted.
trap : INT TERM

# The linter vets.
# shellcheck disable=SC2016 # expanded by the shell that gotestsum starts
count='echo "$TESTS_FAILED" >"$0"'
bin/gotestsum/gotestsum --format "${GOTESTSUM_FORMAT:-testname}" --format-hide-empty-pkg --jsonfile "$json" \
  --post-run-command "bash -c '$count' .cache/suites/$suite.failed" -- -vet=off -count=1 "$@"
status=$?

# of ACTION counts the tests that ended so.
of() { grep -c "\"Action\":\"$1\",\"Package\":\"[^\"]*\",\"Test\"" "$json"; }
failed=$(cat ".cache/suites/$suite.failed" 2>/dev/null || echo 0)
rm -f ".cache/suites/$suite.failed"
if ((status != 0 && failed == 0)); then
  echo "suite $suite: ended with status $status"
  failed=1
fi

# A line for each skip: the test, and what it said.
awk -v suite="$suite" '
  # text returns the value of a field that is a string; what is in it stays as JSON has it, but for the usual.
  function text(name, value) {
    if (!match($0, "\"" name "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
    value = substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
    gsub(/\\[nt]/, " ", value); gsub(/\\"/, "\"", value)
    gsub(/\\u003c/, "<", value); gsub(/\\u003e/, ">", value); gsub(/\\u0026/, "\\&", value)
    gsub(/  +/, " ", value)
    return value
  }
  { key = text("Package") " " text("Test") }
  /"Action":"run"/ { said[key] = "" }
  /"Action":"output"/ { line = text("Output"); if (line !~ /^ *(===|---) /) said[key] = said[key] line }
  /"Action":"skip"/ && /"Test"/ { sub(/ $/, "", said[key]); print "SKIP " suite ": " text("Test") ":" said[key] }
' "$json" >".cache/suites/$suite.skips"

hack/count.sh "$suite" "$(of pass)" "$failed" "$(of skip)" "$SECONDS"
