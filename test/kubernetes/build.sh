#!/usr/bin/env bash
# Usage: test/kubernetes/build.sh [PART]...
# Builds parts of Kubernetes (default: all) from the sources that go.mod pins, with nothing but the Go module proxy:
#   controlplane  kube-apiserver, kube-controller-manager, kube-scheduler, kubectl: one binary, and links to it
#   etcd          etcd
#   node          kubelet, kube-proxy: one binary, and links to it
#   containerd    containerd, containerd-shim-runc-v2, ctr
# They go to ${XDG_CACHE_HOME:-~/.cache}/containerhook/kubernetes-<hash of the sources>, once for all checkouts of this
# machine, and .cache/kubernetes/current links there: a directory that serves as KUBEBUILDER_ASSETS too.
set -euo pipefail
cd "$(dirname "$0")"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

version() { go list -m -f '{{.Version}}' "$1"; }

kubernetes=$(version k8s.io/kubernetes)
containerd=github.com/containerd/containerd/v2
hash=$({
  go env GOVERSION GOOS GOARCH
  cat go.mod go.sum build.sh ./*/*.go
} | sha256sum | cut -c1-16)
out=${XDG_CACHE_HOME:-$HOME/.cache}/containerhook/kubernetes-$hash
mkdir -p "$out" ../../.cache/kubernetes
ln -sfn "$out" ../../.cache/kubernetes/current

(($#)) || set -- controlplane etcd node containerd
exec {lock}>"$out/.lock"
flock "$lock" # another one may be building the same

# Whatever is missing is built by one command: what the parts have in common is compiled once, and the linker of one
# runs beside the compiler of another.
parts=() packages=()
for part in "$@"; do
  [[ ! -e $out/.$part ]] || continue
  case $part in
    controlplane | node | etcd) packages+=("./$part") ;;
    containerd) packages+=("$containerd"/cmd/{containerd,containerd-shim-runc-v2,ctr}) ;;
    *) echo "kubernetes: no part $part" >&2 && exit 2 ;;
  esac
  parts+=("$part")
done
((${#parts[@]})) || exit 0

echo "kubernetes: building ${parts[*]} of $kubernetes: once"
started=$SECONDS
# Without a version the API server says v0.0.0-master, which nothing accepts.
go build -trimpath -o "$out/" \
  -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes -X $containerd/version.Version=$(version $containerd)" \
  "${packages[@]}" {lock}>&-

for part in "${parts[@]}"; do
  case $part in
    controlplane) links=(kube-apiserver kube-controller-manager kube-scheduler kubectl) ;;
    node) links=(kubelet kube-proxy) ;;
    *) links=() ;;
  esac
  for link in "${links[@]}"; do
    ln -sf "$part" "$out/$link"
  done
  touch "$out/.$part"
done
echo "kubernetes: built ${parts[*]} in $((SECONDS - started)) s"
