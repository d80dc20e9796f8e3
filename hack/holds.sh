#!/usr/bin/env bash
# Usage: hack/holds.sh [RESULTS]
# Writes the table of holds in docs/security-model.md from the results of make test-kernel (.cache/suites/kernel.json): of
# each case the longest hold that its test has seen, and the limit that it is held to.
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-.cache/suites/kernel.json}
docs=docs/security-model.md

table=$(mktemp)
trap 'rm -f "$table"' EXIT
{
  echo "<!-- BEGIN HOLDS: written by make update-holds -->"
  echo "| case | longest hold | limit | of | where nobody holds |"
  echo "|---|---|---|---|---|"
  grep -o 'hold-row: |[^"\\]*' "$results" | sed 's/^hold-row: | //; s/ |$//' | awk -F ' [|] ' '
    function ms(text) { return text ~ /ms$/ ? text + 0 : text * 1000 }
    ms($2) >= longest[$1] { longest[$1] = ms($2); row[$1] = $0 }
    END { for (name in row) print row[name] }' | LC_ALL=C sort |
    sed -E 's/^(.*) [|] (.*) [|] (.*) [|] of ([0-9]+) execs, the machine itself (.*)$/| \1 | \2 | \3 | \4 execs | \5 |/'
  echo
  echo "At commit $(git rev-parse --short HEAD), $(date -u +%F), on $(nproc) processors, Linux $(uname -r | cut -d- -f1)."
  echo "<!-- END HOLDS -->"
} >"$table"

[[ $(wc -l <"$table") -gt 6 ]] || { echo "holds: $results has none: make test-kernel first" >&2; exit 1; }
sed -i -e "/^<!-- BEGIN HOLDS/,/^<!-- END HOLDS/{/^<!-- END HOLDS/r $table
d}" "$docs"
