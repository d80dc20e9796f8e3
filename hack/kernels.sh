#!/usr/bin/env bash
# Usage: hack/kernels.sh ARCH SERIES...
# The suite "kernels": boots each kernel with test/kernels/run.sh, whose last line is the sum of all checks, and counts it
# as the other suites are. Without that line all of it has failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
output=$(mktemp)
trap 'rm -f "$output"' EXIT
trap : INT TERM # run.sh ends by it

test/kernels/run.sh "$@" 2>&1 | tee "$output" | grep --line-buffered -v '^suite kernels:'
status=${PIPESTATUS[0]}

read -r passed failed skipped < <(
  sed -n 's/^suite kernels: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped.*/\1 \2 \3/p' "$output"
  echo 0 1 0
)
((status == 0 || failed)) || failed=1
hack/count.sh kernels "$passed" "$failed" "$skipped" "$SECONDS"
