SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Flags of the agent for make run: make run ARGS="-o wide"
ARGS ?=
FUZZTIME ?= 60s

# Debian's packages. The race detector links with a C compiler; only update-bpf and verify-bpf need clang.
RUN_DEPS := runc
TEST_DEPS := gcc libc6-dev
KERNEL_DEPS := runc crun conmon
BPF_DEPS := clang llvm libbpf-dev

# As everything is built that is shipped: what they have in common is compiled once.
SHIPPED := CGO_ENABLED=0 GOFLAGS=-trimpath
TOOL := $(SHIPPED) go tool -modfile=tools/go.mod
LINT := bin/golangci-lint
RING := go run ./hack/ring
KERNEL_TESTS := ./test/kernel/...

# The checks that make up the ring "verify". Each works alone too.
CHECKS := verify-fmt verify-mod verify-api verify-bpf verify-chart lint

# unchanged fails, and shows it, where a path differs from what is committed.
unchanged = git diff --exit-code -- $(1) && [[ -z "$$(git ls-files --others --exclude-standard -- $(1) | tee /dev/stderr)" ]]

##@ General

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*##"; printf "\nUsage:\n  make \033[36m<target>\033[0m\n"} \
		/^[a-zA-Z_0-9-]+:.*?##/ { printf "  \033[36m%-13s\033[0m %s\n", $$1, $$2 } \
		/^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) }' $(MAKEFILE_LIST)

##@ Use

.PHONY: build
build: ## Build bin/agent: static, no C compiler needed.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/agent ./cmd/agent

.PHONY: run
run: build ## As root: show this machine's containers live; with none, two small ones are started. ARGS="-o wide"
	@hack/deps.sh $(RUN_DEPS)
	@hack/run.sh $(ARGS)

##@ Cluster

# A cluster of this machine's own: see test/cluster/cluster.sh.
CLUSTER := test/cluster/cluster.sh
CLUSTER_DEPS := runc crun busybox-static containernetworking-plugins iproute2 nftables openssl
NODES ?= 2
RUNTIME ?= runc
N ?= 2
export NODES RUNTIME

.PHONY: cluster-parts
cluster-parts: bin/chart/helm3 bin/chart/helm4
	@hack/deps.sh $(CLUSTER_DEPS)
	@test/kubernetes/build.sh
	@$(MAKE) --no-print-directory image PLATFORMS=linux/$$(go env GOARCH)

.PHONY: cluster
cluster: cluster-parts ## As root: a real Kubernetes on this machine, the chart installed. NODES=2 RUNTIME=crun
	@$(CLUSTER) up
	@hack/install.sh

.PHONY: cluster-install
cluster-install: cluster-parts ## Bring the programs and the chart, as they are now, into that cluster. ARGS="--set ..."
	@hack/install.sh $(ARGS)

.PHONY: cluster-down
cluster-down: ## Take the cluster down; nothing of it is left.
	@$(CLUSTER) down

.PHONY: cluster-node-crash
cluster-node-crash: ## Cut the power of node N.
	@$(CLUSTER) crash node$(N)

.PHONY: cluster-node-boot
cluster-node-boot: ## And boot node N again.
	@$(CLUSTER) boot node$(N)

.PHONY: demo
demo: cluster-parts ## As root: a cluster with the chart and some containers, until Ctrl-C.
	@hack/with-cluster.sh hack/demo.sh

##@ Test

.PHONY: test
test: ## Run every ring: verify, unit, chart, kernel, api, e2e; as root.
	@hack/test.sh verify test-unit test-chart test-kernel test-api test-e2e

.PHONY: test-unit
test-unit: ## Run the unit tests; no root.
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@$(RING) -name unit -- go test -json -race -count=1 $$(go list ./... | grep -v /test/)

.PHONY: test-kernel
test-kernel: ## Run the tests on this kernel, with private copies of runc, crun and conmon; as root.
	@hack/deps.sh $(KERNEL_DEPS)
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@$(RING) -name kernel -v -again 3 -- go test -json -race -count=1 -timeout 1h $(KERNEL_TESTS)

# An API server for tests. KUBEBUILDER_ASSETS can name a folder that has one.
.PHONY: test-api
test-api: ## Run the tests against a real kube-apiserver, as root; the first time it is built, some ten minutes.
	@hack/deps.sh $(RUN_DEPS)
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@[[ -n "$$KUBEBUILDER_ASSETS" ]] || test/kubernetes/build.sh etcd controlplane
	@$(RING) -name api -v -again 3 -- go test -json -race -count=1 -timeout 1h ./test/api/...

.PHONY: kubernetes
kubernetes: ## Build Kubernetes and containerd into .cache/kubernetes. PARTS="etcd controlplane" is what test-api needs.
	@test/kubernetes/build.sh $(PARTS)

# They need nothing of this machine's kernel, and no root but to install qemu.
KERNELS ?= 5.10 6.1 6.12 7.3
KERNELS_ARCH ?= amd64
KERNELS_DEPS := $(if $(filter arm64,$(KERNELS_ARCH)),qemu-system-arm,qemu-system-x86) cpio

.PHONY: test-kernels
test-kernels: ## Boot other kernels in qemu, and test the agent there; minutes each. KERNELS="5.10 6.1" KERNELS_ARCH=arm64
	@hack/deps.sh $(KERNELS_DEPS)
	@test/kernels/run.sh $(KERNELS_ARCH) $(KERNELS)

# At most an hour: a node needs about a minute to be missed, and an API server that is away is away for two.
E2E := -timeout 60m ./test/e2e

.PHONY: test-e2e
test-e2e: cluster-parts ## Run the tests of the chart on a cluster of this machine, and take it down; as root.
	@hack/deps.sh podman # one of the engines past the kubelet
	@hack/with-cluster.sh $(RING) -name e2e -v -again 3 -- go test -json -count=1 $(E2E)

.PHONY: e2e
e2e: ## Run the same tests on the cluster that KUBECONFIG names, with the chart installed. What needs our nodes is skipped.
	@$(RING) -name e2e -v -again 3 -- go test -json -count=1 $(E2E)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (60s).
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: bench-hook
bench-hook: build ## As root: measure what the agent costs; some minutes, nothing else should run. ARGS="-h" lists options.
	@hack/deps.sh $(TEST_DEPS) runc crun
	@go run ./test/bench $(ARGS)

##@ Check

.PHONY: verify
verify: ## Run the ring of checks: formatting, modules, generated files, lint.
	@hack/verify.sh $(CHECKS)

.PHONY: verify-fmt
verify-fmt: ## Fail where gofmt would change a file.
	@files=$$(gofmt -l .); [[ -z $$files ]] || { echo "gofmt: $$files"; exit 1; }

.PHONY: verify-mod
verify-mod: ## Fail where go.mod or go.sum is not tidy.
	@go mod tidy -diff

.PHONY: verify-api
verify-api: update-api ## Fail where what is generated of api/ is not what is committed.
	@$(call unchanged,api config/crd)

.PHONY: verify-bpf
verify-bpf: ## Fail where the compiled BPF is not what Debian 12's clang makes of bpf/*.c.
	@hack/deps.sh $(BPF_DEPS)
	@if clang --version | grep -q 'Debian clang version 14\.'; then \
		$(MAKE) --no-print-directory update-bpf && $(call unchanged,bpf); \
	else \
		echo "SKIP verify-bpf: the committed objects are Debian clang 14's, this is $$(clang --version | head -1)"; \
	fi

.PHONY: lint
lint: $(LINT) ## Run golangci-lint, with kube-api-linter.
	@$(SHIPPED) $(LINT) run

##@ Deliver

# The image's name; its tag is VERSION. What is in it has the time of the commit.
IMAGE ?= ghcr.io/containerhook/containerhook
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
PLATFORMS := linux/amd64 linux/arm64
LABEL := -label=org.opencontainers.image.

.PHONY: image
image: $(PLATFORMS:%=bin/image/%) ## Make bin/containerhook.tar, an OCI image for amd64 and arm64, without docker; twice the same.
	@go run ./hack/image -o bin/containerhook.tar -name $(IMAGE):$(VERSION) -created $(SOURCE_DATE_EPOCH) -entrypoint /agent \
		$(LABEL)title=containerhook '$(LABEL)description=Every container on every node as a Kubernetes object' \
		$(LABEL)version=$(VERSION) $(LABEL)revision=$$(git rev-parse HEAD) $(LABEL)licenses=Apache-2.0 \
		$(LABEL)source=https://github.com/containerhook/containerhook \
		$(foreach p,$(PLATFORMS),$(p)=bin/image/$(p)) | tee bin/containerhook.digest

# Every command of cmd/ is in it. Nothing of the machine that builds is: no path, no C library, no instruction set.
.PHONY: $(PLATFORMS:%=bin/image/%)
$(PLATFORMS:%=bin/image/%): bin/image/%:
	@rm -rf $@ && mkdir -p $@ && cp LICENSE $@/
	@GOOS=$(word 1,$(subst /, ,$*)) GOARCH=$(word 2,$(subst /, ,$*)) GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 GOFLAGS= \
		go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $@/ ./cmd/...

.PHONY: sbom
sbom: bin/chart/cyclonedx-gomod ## Make bin/sbom/*.cdx.json: what each binary of the image is made of (CycloneDX).
	@mkdir -p bin/sbom && for dir in cmd/*/; do \
		$< app -json -licenses -noserial -packages=false -main $$dir -output bin/sbom/$$(basename $$dir).cdx.json .; done

# The tools of the chart and of the bill of materials, with the versions of tools/chart/go.mod.
bin/chart/helm3: TOOL_PACKAGE = helm.sh/helm/v3/cmd/helm
bin/chart/helm4: TOOL_PACKAGE = helm.sh/helm/v4/cmd/helm
bin/chart/helm-unittest: TOOL_PACKAGE = github.com/helm-unittest/helm-unittest/cmd/helm-unittest
bin/chart/helm-docs: TOOL_PACKAGE = github.com/norwoodj/helm-docs/cmd/helm-docs
bin/chart/kubeconform: TOOL_PACKAGE = github.com/yannh/kubeconform/cmd/kubeconform
bin/chart/cyclonedx-gomod: TOOL_PACKAGE = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

bin/chart/%: tools/chart/go.mod tools/chart/go.sum
	@echo "building $@, once"
	@CGO_ENABLED=0 go build -modfile=tools/chart/go.mod -trimpath -o $@ -ldflags "-s -w \
		-X helm.sh/helm/v3/internal/version.version=$$(go list -modfile=tools/chart/go.mod -m -f '{{.Version}}' helm.sh/helm/v3) \
		-X helm.sh/helm/v4/internal/version.version=$$(go list -modfile=tools/chart/go.mod -m -f '{{.Version}}' helm.sh/helm/v4)" \
		$(TOOL_PACKAGE)

bin/chart/rules: tools/rules/go.mod tools/rules/go.sum tools/rules/main.go
	@cd tools/rules && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../$@ .

CHART_TOOLS := $(addprefix bin/chart/,helm3 helm4 helm-unittest kubeconform rules)

.PHONY: test-chart
test-chart: $(CHART_TOOLS) ## Test the chart with both Helms, against Kubernetes' own schemas; no cluster.
	@$(RING) -name chart -- go test -json -count=1 ./test/chart

.PHONY: update-chart
update-chart: bin/chart/helm-docs ## Copy what the chart has of config/, and make its README.
	@rm -rf charts/containerhook/files/{crds,rbac,policy,compact} && mkdir charts/containerhook/files/{crds,rbac,policy,compact}
	@cp config/crd/bases/*.yaml charts/containerhook/files/crds/
	@cp config/rbac/{agent,controller,viewer}.yaml charts/containerhook/files/rbac/
	@cp config/policy/agent.yaml charts/containerhook/files/policy/
	@cp config/compact/nodecontainers.yaml charts/containerhook/files/compact/
	@$< --chart-search-root charts --log-level warning

.PHONY: verify-chart
verify-chart: update-chart ## Fail where the chart's copies of config/ or its README are not what is committed.
	@$(call unchanged,charts)

##@ Develop

.PHONY: fmt
fmt: ## Format the Go code.
	@gofmt -w .

.PHONY: vet
vet: ## Run go vet.
	@go vet ./...

.PHONY: update-api
update-api: ## Generate the deep copies, the apply configurations and the CRDs of api/.
	@$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt \
		crd output:crd:dir=config/crd/bases paths=./api/v1alpha1

.PHONY: update-bpf
update-bpf: ## Compile bpf/*.c for amd64 and arm64 with clang, and generate its Go types.
	@hack/deps.sh $(BPF_DEPS)
	@go generate ./bpf

.PHONY: tools
tools: $(LINT) ## Build the tools that are not run by go tool.

# The linter is run too often for go tool's start-up. A first build takes about two minutes on two cores.
$(LINT): tools/go.mod tools/go.sum
	@echo "building $@: once, about two minutes"
	@$(SHIPPED) go build -modfile=tools/go.mod -o $@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter
