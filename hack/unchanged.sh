#!/usr/bin/env bash
# Usage: hack/unchanged.sh TARGET PATH...
# Fails, and shows the difference, where the make target would change what is at a path. It runs in a copy of what git
# knows: nothing here changes under other tests' feet, and what git does not know is a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
shift

copy=$(mktemp -d --tmpdir containerhook-unchanged.XXXXXX)
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM
git ls-files -z --deduplicate | while IFS= read -r -d '' file; do
  [[ ! -e $file ]] || printf '%s\0' "$file"
done | tar --create --null --files-from - | tar --extract --directory "$copy"
make --no-print-directory --directory "$copy" "$target"

status=0
for path in "$@"; do
  diff --recursive --unified "$path" "$copy/$path" || status=1
done
((status == 0)) || echo "what is generated is not what is here: make $target"
exit $status
