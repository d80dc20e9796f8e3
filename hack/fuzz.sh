#!/usr/bin/env bash
# Usage: hack/fuzz.sh DURATION
# Runs every fuzz target of the module for DURATION, one after the other: go test takes one at a time. An input is made
# smaller ten times at most: by default that goes on for a minute, of the target's own time.
set -euo pipefail

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# fuzz fails where the target does. Before Go 1.27 it may fail for nothing but that its time is over (golang/go#75804): a
# finding leaves an input.
fuzz() {
  go test -run '^$' -fuzz "^$2\$" -fuzztime "$3" -fuzzminimizetime 10x "$1" 2>&1 | tee "$output" && return
  grep -qx '    context deadline exceeded' "$output" && ! grep -q 'Failing input' "$output"
}

go test -list '^Fuzz' ./... | awk '
  /^Fuzz/ { names[++n] = $1 }
  $1 == "ok" { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }
' | while read -r package name; do
  echo "--- $package $name"
  fuzz "$package" "$name" "$1"
done
