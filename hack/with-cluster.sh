#!/usr/bin/env bash
# Usage: hack/with-cluster.sh COMMAND...
# Runs a command with a cluster of this machine in which the chart is installed, and takes the cluster down at the end,
# however that comes. KUBECONFIG and PATH lead the command there. A cluster that is up already is replaced.
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'exit 130' INT TERM # and so to the next trap
trap 'test/cluster/cluster.sh down' EXIT

test/cluster/cluster.sh up
hack/install.sh
export KUBECONFIG=$PWD/.cache/cluster/admin.kubeconfig PATH=$PWD/.cache/kubernetes/current:$PWD/bin/chart:$PATH
"$@"
