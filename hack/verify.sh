#!/usr/bin/env bash
# Usage: hack/verify.sh TARGET...
# The ring "verify": each make target is one check. A check that fails exits non-zero; one that cannot be made here
# prints a line that begins with "SKIP" and exits 0. All are run, and counted.
set -uo pipefail
mkdir -p .cache

passed=0 failed=0 skipped=0
for target in "$@"; do
  echo "--- $target"
  if ! make --no-print-directory "$target" 2>&1 | tee .cache/check; then
    echo "FAIL $target"
    failed=$((failed + 1))
  elif grep -q '^SKIP' .cache/check; then
    skipped=$((skipped + 1))
  else
    passed=$((passed + 1))
  fi
done
rm .cache/check

echo "ring verify: $passed passed, $failed failed, $skipped skipped"
echo "verify $passed $failed $skipped" >>.cache/rings
((failed == 0))
