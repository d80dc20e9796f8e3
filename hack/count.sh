#!/usr/bin/env bash
# Usage: hack/count.sh SUITE PASSED FAILED SKIPPED SECONDS
# Prints a suite's summary line, and keeps the counts for hack/test.sh to add up; fails where one failed or none ran.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=$1 passed=$2 failed=$3 skipped=$4 seconds=$5

if ((passed + failed + skipped == 0)); then
  echo "suite $suite: no test ran"
  failed=1
fi
echo "suite $suite: $passed passed, $failed failed, $skipped skipped ($seconds s)"
mkdir -p .cache/suites
echo "$suite $passed $failed $skipped $seconds" >".cache/suites/$suite.counts"
((failed == 0))
