#!/usr/bin/env bash
# Usage: hack/chart-tools.sh DIRECTORY
# Builds there the tools of the chart and of the bill of materials, with the versions of tools/chart/go.mod: helm3, helm4,
# helm-unittest, helm-docs, kubeconform, cyclonedx-gomod; and rules, of tools/rules.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
export CGO_ENABLED=0

declare -A packages=(
  [helm3]=helm.sh/helm/v3/cmd/helm
  [helm4]=helm.sh/helm/v4/cmd/helm
  [helm-unittest]=github.com/helm-unittest/helm-unittest/cmd/helm-unittest
  [helm-docs]=github.com/norwoodj/helm-docs/cmd/helm-docs
  [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform
  [cyclonedx-gomod]=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
)
build=(go build -modfile=tools/chart/go.mod -trimpath)
version() { go list -modfile=tools/chart/go.mod -m -f '{{.Version}}' "$1"; }
ldflags="-s -w"
for major in v3 v4; do
  ldflags+=" -X helm.sh/helm/$major/internal/version.version=$(version helm.sh/helm/$major)"
done

# All at once compiles, and what they have in common once; it links nothing, because both Helms have one name.
"${build[@]}" "${packages[@]}"

# A linker uses one core for the most part.
pids=()
for name in "${!packages[@]}"; do
  "${build[@]}" -ldflags "$ldflags" -o "$out/$name" "${packages[$name]}" &
  pids+=($!)
done
for pid in "${pids[@]}"; do
  wait "$pid"
done
go build -C tools/rules -trimpath -ldflags '-s -w' -o "$out/rules" .
