#!/usr/bin/env bash
# Usage: hack/run.sh [FLAG of the agent]...
# Runs the standalone agent until Ctrl-C. Where no container runs it starts two small ones, once the agent is ready, and
# removes them at the end: hook-demo-1 runs as long as the agent does, hook-demo-2 exits 3 after five seconds.
set -euo pipefail
((EUID == 0)) || { echo "run: only root may see and hold the node's containers: sudo make run" >&2; exit 1; }

health=127.0.0.1:18081
demos=
dir=

# containers says whether a runtime has any: a guess for the demo only, the agent looks for itself.
containers() {
  compgen -G '/run/runc/*/state.json' || compgen -G '/run/crun/*/status' ||
    compgen -G '/run/containerd/runc/*/*/state.json' || compgen -G '/run/docker/runtime-*/*/*/state.json'
} >/dev/null

# remove takes away the demo, and what a run that was killed has left of one.
remove() {
  if [[ -n $demos ]]; then
    kill "$demos" 2>/dev/null || true
    wait "$demos" || true
  fi
  for id in hook-demo-1 hook-demo-2; do
    runc delete --force "$id" 2>/dev/null || true
  done
  [[ -z $dir ]] || rm -rf "$dir"
}

ready() {
  local status
  { exec 3<>"/dev/tcp/${health/://}"; } 2>/dev/null || return 1
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
  read -r status <&3
  exec 3>&-
  [[ $status == *' 200 '* ]]
}

# bundle ID COMMAND makes a bundle of runc's default config.json, with a shell and sleep for a root file system.
bundle() {
  local root=$dir/$1/rootfs
  mkdir -p "$root"
  for binary in sh sleep; do
    binary=$(command -v "$binary")
    # shellcheck disable=SC2046 # paths of libraries have no spaces
    cp --parents --dereference "$binary" $(ldd "$binary" | grep -o '/[^ ]*') "$root"
  done
  runc spec --bundle "$dir/$1"
  sed -i -e 's/"terminal": true/"terminal": false/' -e "s|^\(\s*\)\"sh\"\$|\1\"sh\", \"-c\", \"$2\"|" "$dir/$1/config.json"
}

demo() {
  trap 'kill $! 2>/dev/null; exit' TERM
  until ready; do
    sleep 0.2 & wait $!
  done
  bundle hook-demo-1 'exec sleep 1000000'
  bundle hook-demo-2 'sleep 5; exit 3'
  for id in hook-demo-1 hook-demo-2; do
    runc create --bundle "$dir/$id" "$id" </dev/null >/dev/null
    runc start "$id"
  done
}

trap remove EXIT
remove
if ! containers; then
  dir=$(mktemp -d --tmpdir containerhook-demo.XXXXXX)
  demo &
  demos=$!
fi
bin/agent --standalone --health-bind-address="$health" "$@" &
agent=$!
trap 'kill "$agent" 2>/dev/null || true' INT TERM
status=0
wait "$agent" || status=$?
if kill -0 "$agent" 2>/dev/null; then # a signal came, and the agent got it too
  status=0
  wait "$agent" || status=$?
fi
exit "$status"
