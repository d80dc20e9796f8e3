#!/usr/bin/env bash
# Usage: hack/fuzz.sh DURATION
# Runs every fuzz target of the module for DURATION, one after the other: go test takes one at a time. An input is made
# smaller ten times at most: by default that goes on for a minute, of the target's own time.
set -euo pipefail

go test -list '^Fuzz' ./... | awk '
  /^Fuzz/ { names[++n] = $1 }
  $1 == "ok" { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }
' | while read -r package name; do
  echo "--- $package $name"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 10x "$package"
done
