#!/usr/bin/env bash
# Usage: hack/kernels.sh ARCH SERIES...
# The suite "kernels": boots each kernel with test/kernels/run.sh and adds up the checks that it counts. One that cannot be
# had or does not come to its end is a failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
output=$(mktemp)
trap 'rm -f "$output"' EXIT
trap : INT TERM # run.sh ends by it, and what ran until then is counted

test/kernels/run.sh "$@" 2>&1 | tee "$output"
status=$?

read -r passed failed skipped < <(awk '
  /^kernel .*: .*[0-9]+ (passed|failed|skipped)/ {
    for (i = 2; i <= NF; i++) {
      if ($i ~ /^passed/) p += $(i - 1)
      if ($i ~ /^failed/) f += $(i - 1)
      if ($i ~ /^skipped/) s += $(i - 1)
    }
  }
  END { print p + 0, f + 0, s + 0 }' "$output")
((status == 0 || failed)) || failed=1
mkdir -p .cache/suites
grep '^SKIP' "$output" | sed 's/^SKIP/SKIP kernels:/' >.cache/suites/kernels.skips
hack/count.sh kernels "$passed" "$failed" "$skipped" "$SECONDS"
