#!/usr/bin/env bash
# Usage: hack/test-long.sh TARGET...
# Runs suites one after the other, and writes what they gave to docs/test-long.md, where the tree is what its commit says.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
page=docs/test-long.md

dirty() { [[ -n $(git status --porcelain) ]]; }
keep=
if dirty; then
  keep=1
  echo "test-long: the tree has changes that are in no commit: $page stays as it is"
fi
commit=$(git rev-parse --short=12 HEAD)

hack/test.sh "0 $*"
status=$?
((status != 130)) || exit $status
if [[ $keep ]] || dirty || [[ $(git rev-parse --short=12 HEAD) != "$commit" ]]; then
  echo "test-long: $page was not written, because the tree was not what commit $commit says from beginning to end" >&2
  exit $status
fi

{
  cat <<PAGE
# What \`make test-long\` last gave

It runs the kernel, API and cluster suites with their long volumes, and the agent on other kernels in qemu. It writes this
page itself, on a tree without changes, also where something failed.

Commit $commit, on $(date -u +%F), Linux $(uname -r), $(nproc) cores:

| suite | passed | failed | skipped | seconds |
|---|--:|--:|--:|--:|
PAGE
  sed 's/ / | /g; s/^/| /; s/$/ |/' .cache/suites/all
  if compgen -G '.cache/suites/*.skips' >/dev/null && [[ -n $(cat .cache/suites/*.skips) ]]; then
    printf '\nSkipped:\n\n'
    cat .cache/suites/*.skips | sed 's/^SKIP /- /'
  fi
} >$page
exit $status
