#!/usr/bin/env bash
# Usage: hack/deps.sh PACKAGE...
# Installs the named Debian packages that are missing, from Debian only, and says what it does. Needs root where
# something is missing; it never removes a package to make room for another, and starts no daemon that a package brings.
set -euo pipefail

missing=()
for package in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null || ((EUID != 0)); then
  echo "deps: missing ${missing[*]}; on Debian, as root: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=120)

# Without it docker.io and containerd would run from now on, and after every boot. Debian asks this file first.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends --no-remove "${missing[@]}" >/dev/null
