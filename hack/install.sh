#!/usr/bin/env bash
# Usage: hack/install.sh [FLAG of helm]...
# Brings bin/containerhook.tar to the nodes of make cluster and installs the chart with it, or upgrades it.
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cache/cluster/admin.kubeconfig
name=$(tar -xOf bin/containerhook.tar index.json | grep -o '"io.containerd.image.name":"[^"]*"' | cut -d'"' -f4)

test/cluster/cluster.sh load bin/containerhook.tar
bin/chart/helm4 upgrade --install containerhook charts/containerhook --namespace containerhook-system --create-namespace \
  --set image.repository="${name%:*}" --set image.tag="${name##*:}" --wait --timeout 3m "$@"
