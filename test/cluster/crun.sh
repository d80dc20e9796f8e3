#!/bin/sh
# crun for containerd: Debian 12's does not know the version that containerd writes into config.json, 1.3.0.
bundle=
for argument; do
  [ "$previous" != --bundle ] || bundle=$argument
  previous=$argument
done
[ -z "$bundle" ] || sed -i 's/"ociVersion":"[^"]*"/"ociVersion":"1.0.2"/' "$bundle/config.json"
exec /usr/bin/crun "$@"
