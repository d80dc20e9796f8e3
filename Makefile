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

TOOL := go tool -modfile=tools/go.mod
LINT := bin/golangci-lint
RING := go run ./hack/ring
KERNEL_TESTS := ./test/kernel/...

# The checks that make up the ring "verify". Each works alone too.
CHECKS := verify-fmt verify-mod verify-api verify-bpf lint

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

##@ Test

.PHONY: test
test: ## Run every ring: verify, test-unit, test-kernel (root).
	@hack/test.sh verify test-unit test-kernel

.PHONY: test-unit
test-unit: ## Run the unit tests; no root.
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@$(RING) -name unit -- go test -json -race -count=1 $$(go list ./... | grep -v /test/)

.PHONY: test-kernel
test-kernel: ## Run the tests on this kernel, with private copies of runc, crun and conmon; as root.
	@hack/deps.sh $(KERNEL_DEPS)
	@command -v gcc >/dev/null || hack/deps.sh $(TEST_DEPS)
	@$(RING) -name kernel -v -- go test -json -race -count=1 -timeout 30m $(KERNEL_TESTS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (60s).
	@hack/fuzz.sh $(FUZZTIME)

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
verify-api: update-api ## Fail where the generated code of api/ is not what is committed.
	@$(call unchanged,api)

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
	@$(LINT) run

##@ Develop

.PHONY: fmt
fmt: ## Format the Go code.
	@gofmt -w .

.PHONY: vet
vet: ## Run go vet.
	@go vet ./...

.PHONY: update-api
update-api: ## Generate the deep copies of api/.
	@$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: update-bpf
update-bpf: ## Compile bpf/*.c for amd64 and arm64 with clang, and generate its Go types.
	@hack/deps.sh $(BPF_DEPS)
	@go generate ./bpf

.PHONY: tools
tools: $(LINT) ## Build the tools that are not run by go tool.

# The linter is run too often for go tool's start-up. A first build takes about two minutes on two cores.
$(LINT): tools/go.mod tools/go.sum
	@echo "building $@: once, about two minutes"
	@go build -modfile=tools/go.mod -o $@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter
