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
KERNEL_DEPS := runc crun conmon criu $(TEST_DEPS)
BPF_DEPS := clang llvm libbpf-dev
SHELL_DEPS := shellcheck

# As everything is built that is shipped: what they have in common is compiled once, for the tests and the linter too. Only
# what runs with the race detector needs all of it a second time: the unit tests, and the API tests, whose controller runs
# inside the test.
SHIPPED := CGO_ENABLED=0 GOFLAGS=-trimpath
TOOL := $(SHIPPED) go tool -modfile=tools/go.mod

# Tools that are built once for all checkouts of this machine: hack/once.sh. Their links are in bin.
ONCE := hack/once.sh
LINT := bin/lint/golangci-lint-kube-api-linter

# A suite of tests. A contributor's volumes end long before this limit.
TIMEOUT ?= 1h
FORMAT := testname
SUITE := GOTESTSUM_FORMAT=$(FORMAT) hack/suite.sh

# The checks that make up the suite "verify". Each works alone too.
CHECKS := verify-fmt verify-mod verify-shell verify-api verify-bpf verify-chart lint

##@ General

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*##"; printf "\nUsage:\n  make \033[36m<target>\033[0m\n"} \
		/^[a-zA-Z_0-9-]+:.*?##/ { printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2 } \
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
E2E_DEPS := $(CLUSTER_DEPS) podman buildah docker.io # engines past the kubelet
NODES ?= 2
RUNTIME ?= runc
N ?= 2
export NODES RUNTIME

.PHONY: cluster-parts
cluster-parts: chart-tools
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

# Whatever the suites need of Debian, at once: apt serves one at a time.
DEPS := $(sort $(BPF_DEPS) $(SHELL_DEPS) $(TEST_DEPS) $(KERNEL_DEPS) $(E2E_DEPS))

# On two cores: what is about time one after the other; beside it, with what it leaves, what nobody waits for.
.PHONY: test
test: ## Run every suite: verify, unit, chart, kernel, api, e2e; as root. Before a push. Minutes; the first builds Kubernetes.
	@hack/deps.sh $(DEPS)
	@hack/test.sh --build test-parts "0 test-kernel test-api test-e2e" "19 test-unit verify test-chart"

# The volumes of soak tests want the machine for themselves.
.PHONY: test-long
test-long: ## Run kernel, api and e2e with long volumes, and all kernels; as root. Hours. Writes docs/test-long.md.
	@hack/deps.sh $(DEPS) $(KERNELS_DEPS)
	@TEST_LONG=1 TIMEOUT=6h hack/test-long.sh test-kernel test-api test-e2e test-kernels

.PHONY: smoke
smoke: gotestsum ## Follow one container of runc on this kernel from created to stopped; as root. Seconds.
	@hack/deps.sh $(KERNEL_DEPS)
	@$(SHIPPED) $(SUITE) smoke -timeout 2m -run 'FromCreatedToStopped/runc' ./test/kernel

.PHONY: test-unit
test-unit: FORMAT = pkgname
test-unit: gotestsum ## Run the unit tests with the race detector; no root. After every change. A minute.
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@$(SUITE) unit -race $$(go list ./... | grep -v /test/)

.PHONY: test-kernel
test-kernel: gotestsum ## Run the tests on this kernel, with private copies of runc, crun and conmon; as root. Minutes.
	@hack/deps.sh $(KERNEL_DEPS)
	@$(SHIPPED) $(SUITE) kernel -timeout $(TIMEOUT) ./test/kernel/...

# An API server for tests. KUBEBUILDER_ASSETS can name a folder that has one.
.PHONY: test-api
test-api: gotestsum ## Run the tests against a real kube-apiserver; as root. Minutes; the first builds it.
	@hack/deps.sh $(RUN_DEPS) $(TEST_DEPS)
	@[[ -n "$$KUBEBUILDER_ASSETS" ]] || test/kubernetes/build.sh etcd controlplane
	@$(SUITE) api -race -timeout $(TIMEOUT) ./test/api/...

.PHONY: test-e2e
test-e2e: cluster-parts gotestsum ## Run the tests of the chart on a cluster of this machine, and take it down; as root. Minutes; the first builds it.
	@hack/deps.sh $(E2E_DEPS)
	@$(SHIPPED) go test -vet=off -c -o /dev/null ./test/e2e # compiled before a cluster is up that wants the processors
	@$(SHIPPED) GOTESTSUM_FORMAT=$(FORMAT) hack/with-cluster.sh hack/suite.sh e2e -timeout $(TIMEOUT) ./test/e2e

.PHONY: e2e
e2e: gotestsum ## Run the same tests on the cluster that KUBECONFIG names, with the chart installed. What needs our nodes is skipped.
	@$(SHIPPED) $(SUITE) e2e -timeout $(TIMEOUT) ./test/e2e

# They need nothing of this machine's kernel, and no root but to install qemu.
KERNELS ?= 5.10 6.1 6.12 newest
KERNELS_ARCH ?= amd64
KERNELS_DEPS := $(if $(filter arm64,$(KERNELS_ARCH)),qemu-system-arm,qemu-system-x86) cpio

.PHONY: test-kernels
test-kernels: ## Boot other kernels in qemu, and test the agent there; minutes each. KERNELS="5.10 newest" KERNELS_ARCH=arm64
	@hack/deps.sh $(KERNELS_DEPS)
	@hack/kernels.sh $(KERNELS_ARCH) $(KERNELS)

# In the order in which make test needs them. What is there already takes no time.
.PHONY: test-parts
test-parts: gotestsum
	@test/kubernetes/build.sh etcd controlplane
	@test/kubernetes/build.sh
	@$(MAKE) --no-print-directory chart-tools lint-tool
	@$(MAKE) --no-print-directory image PLATFORMS=linux/$$(go env GOARCH)
	@$(SHIPPED) go test -vet=off -c -o /dev/null ./test/e2e

.PHONY: kubernetes
kubernetes: ## Build Kubernetes and containerd, once. PARTS="etcd controlplane" is what test-api needs.
	@test/kubernetes/build.sh $(PARTS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (60s).
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: bench-hook
bench-hook: build ## As root: measure what the agent costs; some minutes, nothing else should run. ARGS="-h" lists options.
	@hack/deps.sh $(TEST_DEPS) runc crun
	@go run ./test/bench $(ARGS)

##@ Check

.PHONY: verify
verify: ## Run the suite of checks: formatting, modules, scripts, generated files, lint. A minute; the first builds the linter.
	@hack/verify.sh $(CHECKS)

.PHONY: verify-fmt
verify-fmt: ## Fail where gofmt would change a file.
	@files=$$(gofmt -l .); [[ -z $$files ]] || { echo "gofmt: $$files"; exit 1; }

.PHONY: verify-mod
verify-mod: ## Fail where go.mod or go.sum is not tidy.
	@go mod tidy -diff

.PHONY: verify-shell
verify-shell: ## Run shellcheck on every script.
	@hack/deps.sh $(SHELL_DEPS)
	@git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --external-sources

.PHONY: verify-api
verify-api: ## Fail where what is generated of api/ is not what is there.
	@hack/unchanged.sh update-api api config/crd docs/api.md

.PHONY: verify-bpf
verify-bpf: ## Fail where the compiled BPF is not what Debian 12's clang makes of bpf/*.c.
	@hack/deps.sh $(BPF_DEPS)
	@if clang --version | grep -q 'Debian clang version 14\.'; then \
		hack/unchanged.sh update-bpf bpf; \
	else \
		echo "SKIP verify-bpf: the committed objects are Debian clang 14's, this is $$(clang --version | head -1)"; \
	fi

.PHONY: lint
lint: lint-tool ## Run golangci-lint, with kube-api-linter.
	@$(SHIPPED) $(LINT) run

##@ Deliver

# The image's name; its tag is VERSION. What is in it has the time of the commit.
IMAGE ?= ghcr.io/containerhook/containerhook
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
PLATFORMS := linux/amd64 linux/arm64
LABEL := -label=org.opencontainers.image.

.PHONY: image
image: $(PLATFORMS:%=bin/image/%) ## Make bin/containerhook.tar, an OCI image for amd64 and arm64, without docker; twice the same.
	@$(SHIPPED) go run ./hack/image -o bin/containerhook.tar -name $(IMAGE):$(VERSION) -created $(SOURCE_DATE_EPOCH) -entrypoint /agent \
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
sbom: chart-tools ## Make bin/sbom/*.cdx.json: what each binary of the image is made of (CycloneDX).
	@mkdir -p bin/sbom && for dir in cmd/*/; do \
		bin/chart/cyclonedx-gomod app -json -licenses -noserial -packages=false -main $$dir -output bin/sbom/$$(basename $$dir).cdx.json .; done

# The tools of the chart and of the bill of materials.
.PHONY: chart-tools
chart-tools:
	@$(ONCE) bin/chart chart-tools hack/chart-tools.sh tools/chart/go.mod tools/chart/go.sum $(wildcard tools/rules/*) -- hack/chart-tools.sh {}

.PHONY: test-chart
test-chart: FORMAT = pkgname
test-chart: chart-tools gotestsum ## Test the chart with both Helms, against Kubernetes' own schemas; no cluster. Seconds; the first builds them.
	@$(SHIPPED) $(SUITE) chart ./test/chart

.PHONY: update-chart
update-chart: chart-tools ## Copy what the chart has of config/, and make its README.
	@rm -rf charts/containerhook/files/{crds,rbac,policy,compact} && mkdir charts/containerhook/files/{crds,rbac,policy,compact}
	@cp config/crd/bases/*.yaml charts/containerhook/files/crds/
	@cp config/rbac/{agent,controller,viewer}.yaml charts/containerhook/files/rbac/
	@cp config/policy/agent.yaml charts/containerhook/files/policy/
	@cp config/compact/nodecontainers.yaml charts/containerhook/files/compact/
	@bin/chart/helm-docs --chart-search-root charts --log-level warning

.PHONY: verify-chart
verify-chart: ## Fail where the chart's copies of config/ or its README are not what update-chart makes.
	@hack/unchanged.sh update-chart charts

##@ Develop

.PHONY: fmt
fmt: ## Format the Go code.
	@gofmt -w .

.PHONY: vet
vet: ## Run go vet.
	@go vet ./...

.PHONY: update-api
update-api: ## Generate the deep copies, the apply configurations, the CRDs and docs/api.md of api/.
	@$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt \
		crd output:crd:dir=config/crd/bases paths=./api/v1alpha1
	@$(SHIPPED) go tool -modfile=tools/apidocs/go.mod crd-ref-docs --source-path=api/v1alpha1 --config=hack/api-docs.yaml --renderer=markdown \
		--output-path=docs/api.md --log-level=ERROR

.PHONY: update-bpf
update-bpf: ## Compile bpf/*.c for amd64 and arm64 with clang, and generate its Go types.
	@hack/deps.sh $(BPF_DEPS)
	@go generate ./bpf

.PHONY: update-holds
update-holds: ## Write the table of holds in docs/security-model.md, of what make test-kernel has seen last.
	@hack/holds.sh

.PHONY: tools
tools: lint-tool chart-tools gotestsum ## Build the tools that are not run by go tool.

# The linter is run too often for go tool's start-up.
.PHONY: lint-tool
lint-tool:
	@$(ONCE) bin/lint lint tools/go.mod tools/go.sum -- \
		env $(SHIPPED) go build -modfile=tools/go.mod -o {}/ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter

.PHONY: gotestsum
gotestsum:
	@$(ONCE) bin/gotestsum gotestsum tools/gotestsum/go.mod tools/gotestsum/go.sum -- \
		env $(SHIPPED) go build -modfile=tools/gotestsum/go.mod -o {}/ gotest.tools/gotestsum
