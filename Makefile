# The one door. `make demo` and `make test` are all that a newcomer needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO := cargo

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

.PHONY: demo
demo: build ## Follow the masked log of a real build, in a minute
	@scripts/demo

.PHONY: test
test: images ## Run every suite against the release builds
	@scripts/install test
	PROPTEST_CASES=1000 RELAY_BIN_DIR=$(CURDIR)/bin $(CARGO) test --workspace --locked
	@$(CLUSTER_TESTS)
	@scripts/planted acknowledge-before-the-put trust-a-name-that-is-taken skip-the-sync-of-the-folder

.PHONY: test-long
test-long: PLATFORMS := amd64 arm64
test-long: images ## Run every suite in its full length
	@RELAY_TEST_LONG=1 scripts/install test
	RELAY_TEST_LONG=1 PROPTEST_CASES=20000 RELAY_BIN_DIR=$(CURDIR)/bin $(CARGO) test --workspace --locked
	@export RELAY_TEST_LONG=1 && $(CLUSTER_TESTS)
	@scripts/planted

# The driver of the cluster says on stdout only how clients find it: `eval "$(make cluster-up)"`.
CLUSTER := $(CARGO) run --quiet --locked -p relay-tests --bin relay-cluster --
# What runs on a node for this run alone, or on RELAY_TEST_KUBECONFIG. Most tests wait most of the time.
CLUSTER_TESTS = scripts/install cluster && RELAY_BIN_DIR=$(CURDIR)/bin $(CLUSTER) run \
	$(CARGO) test --locked -p relay-tests --test cluster --test kube -- --test-threads 6

.PHONY: cluster-up
cluster-up: ## Start a Kubernetes node of this machine's own, and print its KUBECONFIG
	@scripts/install cluster >&2
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## Stop that node; nothing of it is left
	@$(CLUSTER) down

.PHONY: test-cluster
test-cluster: images ## Run the cluster's suite on a node for this run alone, or on RELAY_TEST_KUBECONFIG
	@$(CLUSTER_TESTS)

.PHONY: bless
bless: ## Write the golden files of the tests anew; then read the difference
	$(CARGO) run --quiet --locked -p relay-operator -- crds >crds/tenants.yaml.new
	@mv crds/tenants.yaml.new crds/tenants.yaml
	RELAY_BLESS=1 $(CARGO) test --locked -p relay-operator --test injection --test argv --test definitions
	RELAY_BLESS=1 $(CARGO) test --locked -p relay-tests --test charts golden
	RELAY_BLESS=1 $(CARGO) test --locked -p relay-tests --test log_api committed

.PHONY: bench
bench: build ## Measure beside peers, in the same run (docs/benchmarks.md)
	@scripts/install bench
	RELAY_BIN_DIR=$(CURDIR)/bin $(CARGO) bench --locked --profile dev -p relay-tests --bench peers

.PHONY: check
check: ## Format, lints, docs, licences, layers and house rules
	@scripts/install check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@# What runs only where somebody asks for it is none of all targets.
	$(CARGO) clippy -p relay-tests --test cluster --locked -- -D warnings
	@# Private items are documented too, so links to them lead somewhere.
	RUSTDOCFLAGS='-Dwarnings -Arustdoc::private_intra_doc_links' $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet
	@scripts/check

.PHONY: build
build: ## Leave release builds of the programs in bin/, for this machine's kind
	@scripts/install build
	@scripts/build

# What the images are called: IMAGE_REGISTRY/relay-operator:IMAGE_TAG, and so on.
export IMAGE_REGISTRY IMAGE_TAG
HOST := $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
PLATFORMS ?= $(HOST)

.PHONY: images
images: build ## Leave OCI images in bin/images/, for PLATFORMS="amd64 arm64" or this machine's
	@scripts/install images
	@for platform in $(filter-out $(HOST),$(PLATFORMS)); do scripts/install cross && scripts/build $$platform; done
	@scripts/images $(PLATFORMS)

.PHONY: push-images
push-images: images ## Push those images to IMAGE_REGISTRY
	@scripts/install push
	@scripts/push-images

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf bin .relay
