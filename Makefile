# The commands of this project. Each installs what it needs, outside the tree.
SHELL := bash
.DEFAULT_GOAL := help

# Recipes run after setup, so the path is asked for then, not when make starts.
PYTHON = "$$(scripts/setup.sh --path)/bin/python"

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install Debian and Python packages (into ~/.cache/fastrelay); quick the second time
	@scripts/setup.sh test check

.PHONY: demo
demo: ## Watch real video go from a publisher through the relay to five viewers (root); ARGS="--seconds 60"
	@scripts/setup.sh
	@FASTRELAY_THIRD_PARTY_PYTHON="$$(scripts/third-party.sh installed || true)" $(PYTHON) -m fastrelay.cli demo $(ARGS)

.PHONY: test
test: ## Run all tests: unit with coverage, then integration with third-party clients (root)
	@scripts/test.sh

.PHONY: test-unit
test-unit: ## Run the unit tests only: quick, no root, no coverage
	@scripts/test.sh unit

.PHONY: check
check: ## Lint, format, types, layers, spelling, shell scripts
	@scripts/check.sh

.PHONY: format
format: ## Format the Python code and repair what ruff can
	@scripts/setup.sh check
	@$(PYTHON) -m ruff format --quiet .
	@$(PYTHON) -m ruff check --fix .

.PHONY: fuzz
fuzz: ## Fuzz codec and session for ten minutes with coverage guidance, then the BPF programs (root)
	@scripts/setup.sh test fuzz
	@$(PYTHON) tests/fuzz/run.py --seconds 600
	@$(MAKE) --no-print-directory fuzz-bpf

.PHONY: fuzz-bpf
fuzz-bpf: ## Fuzz the BPF programs against a model with ten million packets (root); ARGS="--seed 7 --packets 20000"
	@scripts/setup.sh test
	@PYTHONPATH=tests $(PYTHON) -m bpf.model_bands
	@PYTHONPATH=tests $(PYTHON) -m bpf.fuzz $(ARGS)

.PHONY: kernels
kernels: ## Test the BPF programs on Debian's kernels in emulated guests (root, amd64); ARGS="bookworm"
	@scripts/kernels.sh $(ARGS)

.PHONY: images
images: ## Build the images operator, agent and relay without docker and registry (root); ARGS="relay"
	@scripts/images.sh $(ARGS)

.PHONY: e2e
e2e: ## Test on a real Kubernetes cluster in namespaces (root, Go); compiles it the first time
	@scripts/e2e.sh $(ARGS)

.PHONY: cluster-demo
cluster-demo: ## Watch the operator bring video into the kernel of a real cluster made for it (root, Go)
	@scripts/e2e.sh -- python -m e2e.demo

.PHONY: bpf-report
bpf-report: ## Measure the BPF programs: verifier, size, nanoseconds a packet (root); writes docs/bpf-report.md
	@scripts/setup.sh test
	@$(PYTHON) scripts/bpf_report.py $(ARGS)

.PHONY: bench
bench: ## Measure the relay beside two others in one run (root); results in out/bench
	@scripts/setup.sh bench
	@FASTRELAY_THIRD_PARTY_PYTHON="$$(scripts/third-party.sh installed || true)" $(PYTHON) -m bench $(ARGS)

.PHONY: bench-quota
bench-quota: ## Measure the quota on connections under attack (root); results in out/bench
	@scripts/setup.sh bench
	@$(PYTHON) -m bench.quota $(ARGS)

.PHONY: bench-adaptation
bench-adaptation: ## A link that goes 8, 2, 1, 6 Mbit/s, with and without adaptation (root); results in out/bench
	@scripts/setup.sh bench
	@PYTHONPATH=tests $(PYTHON) -m bench.adaptation $(ARGS)

.PHONY: bench-panels
bench-panels: ## Draw the dashboards' panels from a real Prometheus (root); pictures in out/bench
	@scripts/setup.sh bench
	@PYTHONPATH=tests $(PYTHON) -m bench.panels $(ARGS)

.PHONY: bench-bottleneck
bench-bottleneck: ## 4 Mbit/s of media into 2 Mbit/s: what a member gets (root); results in out/bench
	@scripts/setup.sh bench
	@FASTRELAY_THIRD_PARTY_PYTHON="$$(scripts/third-party.sh)" PYTHONPATH=tests $(PYTHON) -m bench.bottleneck $(ARGS)

.PHONY: bench-cluster
bench-cluster: ## Measure on a real cluster: 1,000 relays, 200 pods, an upgrade from the last commit (root, Go)
	@scripts/e2e.sh -- python -m e2e.many
	@scripts/e2e.sh -- python -m e2e.attaching
	@scripts/e2e.sh -- python -m e2e.upgrade

.PHONY: layout
layout: ## Write bpf/layout.h from fastrelay/fastpath/layout.py
	@scripts/setup.sh
	@$(PYTHON) -m fastrelay.fastpath.layout >bpf/layout.h.new && mv bpf/layout.h.new bpf/layout.h

.PHONY: crds
crds: ## Write crds/ from the models in relay_agent/fastrelay/api
	@scripts/setup.sh
	@$(PYTHON) -m fastrelay.api.crd crds deploy/helm/fastrelay/files/crds

.PHONY: constraints
constraints: ## Renew constraints.txt with the newest versions of everything
	@scripts/constraints.sh

.PHONY: clean
clean: ## Remove what the commands above made, in the tree and of this tree's environments
	@scripts/clean.sh
