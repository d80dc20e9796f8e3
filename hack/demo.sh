#!/usr/bin/env bash
# Usage: hack/with-cluster.sh hack/demo.sh
# Starts a Deployment, a Job that fails, and past Kubernetes, with runc alone, a container on node1; shows all of them; and
# waits for Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."

# A bundle of runc's default config.json with busybox for a root file system.
# shellcheck disable=SC2016 # expanded on the node
past_kubernetes='
  mkdir -p /run/by-hand/rootfs/bin && cd /run/by-hand
  cp /bin/busybox rootfs/bin/sleep
  runc spec
  sed -i -e "s/\"terminal\": true/\"terminal\": false/" -e "s/\"sh\"/\"sleep\", \"infinity\"/" config.json
  runc run --detach by-hand </dev/null >/dev/null 2>&1'

show() {
  echo "# $*"
  "$@"
  echo
}

kubectl apply -f hack/demo.yaml >/dev/null
kubectl rollout status deployment/web >/dev/null
kubectl wait --for=condition=Failed --timeout=1m job/report >/dev/null
test/cluster/cluster.sh exec node1 sh -c "$past_kubernetes"

show kubectl get nodecontainers
show kubectl get nodecontainers -o wide
show kubectl get nodecontaineragents
echo "In another shell:
  export KUBECONFIG=$KUBECONFIG PATH=$PWD/.cache/kubernetes/current:\$PATH
Ctrl-C takes all of it down."
exec sleep infinity
