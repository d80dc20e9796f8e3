#!/usr/bin/env bash
# Usage: hack/verify.sh TARGET...
# The suite "verify": each make target is one check. A check that fails exits non-zero; one that cannot be made here
# prints a line that begins with "SKIP" and exits 0. All are run, and counted.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
mkdir -p .cache/suites
skips=.cache/suites/verify.skips
rm -f "$skips" .cache/suites/verify.counts
output=$(mktemp)
trap 'rm -f "$output"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0
for target in "$@"; do
  echo "--- $target"
  if ! make --no-print-directory "$target" 2>&1 | tee "$output"; then
    echo "FAIL $target"
    failed=$((failed + 1))
  elif grep '^SKIP' "$output" >>"$skips"; then
    skipped=$((skipped + 1))
  else
    passed=$((passed + 1))
  fi
done
hack/count.sh verify $passed $failed $skipped "$SECONDS"
