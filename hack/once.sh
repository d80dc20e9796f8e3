#!/usr/bin/env bash
# Usage: hack/once.sh LINK NAME FILE... -- COMMAND...
# Runs COMMAND once for each content of the FILEs, on this machine, whichever checkout asks: what it makes in the
# directory {} stays in ${XDG_CACHE_HOME:-~/.cache}/containerhook/NAME-<hash>, and LINK in this checkout leads there. The
# hash is of the files, the command, and the Go that builds. Who asks while another one builds waits for it.
set -euo pipefail
cd "$(dirname "$0")/.."

link=$1 name=$2
shift 2
files=()
while [[ $1 != -- ]]; do
  files+=("$1")
  shift
done
shift

hash=$({
  go env GOVERSION GOOS GOARCH
  echo "$@"
  cat "${files[@]}"
} | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/containerhook
dir=$cache/$name-$hash
mkdir -p "$dir" "$(dirname "$link")"

exec {lock}>"$dir/.lock"
flock "$lock"
if [[ ! -e $dir/.complete ]]; then
  echo "building $name: once"
  started=$SECONDS
  "${@//\{\}/$dir}" {lock}>&- # what it starts must not keep the lock
  touch "$dir/.complete"
  echo "built $name in $((SECONDS - started)) s"
fi

# A directory of the same name is of a checkout from before there was a cache.
[[ -L $link || ! -d $link ]] || rm -r "$link"
ln -sfn "$dir" "$link"
