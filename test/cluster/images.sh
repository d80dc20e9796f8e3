#!/usr/bin/env bash
# Makes the images that nodes begin with, of busybox alone, in $CLUSTER/images: pause, and what tests run.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(mktemp -d --tmpdir containerhook-image.XXXXXX)
trap 'rm -rf "$root"' EXIT
mkdir -p "$CLUSTER/images" "$root/bin" "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
cp /bin/busybox "$root/bin/sh"
for applet in $(busybox --list); do # no links: an image of ours has files only
  [[ -e $root/bin/$applet ]] || printf '#!/bin/sh\nexec busybox %s "$@"\n' "$applet" >"$root/bin/$applet"
done
chmod +x "$root"/bin/*
platform=$(go env GOOS)/$(go env GOARCH)
CGO_ENABLED=0 go build -trimpath -o "$root.pack" ./hack/image
trap 'rm -rf "$root" "$root.pack"' EXIT
pack() { "$root.pack" -o "$CLUSTER/images/$1.tar" -name "containerhook.test/$1:1" -user 0:0 -entrypoint "$2" "$platform=$root" >/dev/null; }
pack pause "/bin/busybox tail -f /dev/null"
pack busybox /bin/sh
