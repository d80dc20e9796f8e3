#!/usr/bin/env bash
# Usage: hack/test.sh [--build TARGET] LANE...
# Runs suites, which are make targets, and adds up their counts. A lane is "NICENESS TARGET...": its suites run one after
# the other, the later ones also where an earlier one failed; lanes run beside each other. TARGET of --build begins first,
# beside them, and builds what later suites need. What a suite prints is shown when it has ended, and is in
# .cache/suites/SUITE.log until then. At the end comes a table, each skip with its reason, and as the last line
# `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
dir=.cache/suites
mkdir -p $dir
rm -f $dir/*.{counts,skips,log,json,lane} $dir/.interrupted

say() { printf '%s %s\n' "$(date +%T)" "$*"; }

# show prints what a suite did, whole: lanes take turns.
show() {
  exec {turn}>$dir/.turn
  flock "$turn"
  echo
  echo "=== $1"
  cat "$dir/$1.log"
  exec {turn}>&-
}

run_lane() {
  local niceness=$1 target suite began status
  shift
  trap : INT # the suite's, which cleans up
  for target in "$@"; do
    [[ ! -e $dir/.interrupted ]] || break
    suite=${target#test-} began=$SECONDS
    say "begin $suite"
    nice -n "$niceness" env --default-signal=INT make --no-print-directory "$target" &>"$dir/$suite.log"
    status=$?
    if [[ ! -e $dir/$suite.counts ]]; then
      echo "suite $suite: ended with status $status and counted nothing" >>"$dir/$suite.log"
      hack/count.sh "$suite" 0 1 0 $((SECONDS - began)) >>"$dir/$suite.log"
    fi
    show "$suite"
    say "end $suite"
  done
}

# Each in the background is a process group of its own: an interrupt is passed on to every one, and all are waited for, until
# they have cleaned up. What a shell starts in the background ignores it, this script perhaps too, and all below it.
set -m
groups=()
interrupted=
# shellcheck disable=SC2317 # called by the trap
interrupt() {
  local group
  interrupted=1
  : >"$dir/.interrupted"
  for group in "${groups[@]}"; do
    kill -INT -- "-$group" 2>/dev/null
  done
}
trap interrupt INT TERM HUP

if [[ $1 == --build ]]; then
  nice -n 10 env --default-signal=INT make --no-print-directory "$2" </dev/null &>$dir/build.log &
  build=$!
  groups+=("$build")
  shift 2
fi
suites=()
for lane in "$@"; do
  read -ra words <<<"$lane"
  suites+=("${words[@]:1}")
  run_lane "${words[@]}" </dev/null &
  groups+=($!)
done
echo "to follow: tail -F $dir/{build$(printf ',%s' "${suites[@]#test-}")}.log"
for group in "${groups[@]}"; do
  while kill -0 "$group" 2>/dev/null; do # an interrupt ends wait
    wait "$group"
    status=$?
  done
  if [[ $group == "${build:-}" ]] && ((status != 0)); then # what needs it says so too
    echo "=== build"
    cat $dir/build.log
  fi
done

echo
printf '%-8s %7s %7s %7s %8s\n' suite passed failed skipped seconds
for suite in "${suites[@]#test-}"; do
  cat "$dir/$suite.counts" 2>/dev/null || echo "$suite 0 1 0 0"
done | tee $dir/all | while read -r suite passed failed skipped seconds; do
  printf '%-8s %7d %7d %7d %8d\n' "$suite" "$passed" "$failed" "$skipped" "$seconds"
done
printf '%-8s %32d\n' "all" "$SECONDS"
cat $dir/*.skips 2>/dev/null
awk '{ p += $2; f += $3; s += $4 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }' $dir/all
status=$?
[[ -z $interrupted ]] || exit 130
exit $status
