#!/usr/bin/env bash
# Usage: test/kubernetes/build.sh [PART]...
# Builds parts of Kubernetes (default: all) from the sources that go.mod pins, with nothing but the Go module proxy:
#   controlplane  kube-apiserver, kube-controller-manager, kube-scheduler, kubectl: one binary, and links to it
#   etcd          etcd
#   node          kubelet, kube-proxy: one binary, and links to it
#   containerd    containerd, containerd-shim-runc-v2, ctr
# They go to .cache/kubernetes/<version of Kubernetes>/, to which .cache/kubernetes/current links: a folder that serves
# as KUBEBUILDER_ASSETS too. What is there from the same sources is not built again.
set -euo pipefail
cd "$(dirname "$0")"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

version() { go list -m -f '{{.Version}}' "$1"; }

cache=$(cd ../.. && pwd)/.cache/kubernetes
kubernetes=$(version k8s.io/kubernetes)
out=$cache/$kubernetes
containerd=github.com/containerd/containerd/v2
sources=$(cat go.mod go.sum build.sh ./*/*.go | sha256sum)
mkdir -p "$out"
exec {lock}>"$cache/.lock"
flock "$lock" # another one may be building the same

(($#)) || set -- controlplane etcd node containerd

for part in "$@"; do
  links=()
  packages=("./$part")
  # Without a version the API server says v0.0.0-master, which nothing accepts.
  set_version=k8s.io/component-base/version.gitVersion=$kubernetes
  case $part in
    controlplane) links=(kube-apiserver kube-controller-manager kube-scheduler kubectl) ;;
    node) links=(kubelet kube-proxy) ;;
    etcd) ;;
    containerd)
      packages=("$containerd"/cmd/{containerd,containerd-shim-runc-v2,ctr})
      set_version=$containerd/version.Version=$(version $containerd)
      ;;
    *) echo "kubernetes: no part $part" >&2 && exit 2 ;;
  esac

  [[ $(cat "$out/.$part" 2>/dev/null) != "$sources" ]] || continue
  echo "kubernetes: building $part of $kubernetes: once"
  started=$SECONDS
  go build -trimpath -ldflags "-s -w -X $set_version" -o "$out/" "${packages[@]}"
  for link in "${links[@]}"; do
    ln -sf "$part" "$out/$link"
  done
  echo "$sources" >"$out/.$part"
  echo "kubernetes: built $part in $((SECONDS - started)) s"
done
ln -sfn "$kubernetes" "$cache/current"
