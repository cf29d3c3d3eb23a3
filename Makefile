# Muster: `make demo` and `make test` are the two commands a fresh machine needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# ansible-lint and molecule start ansible by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Images often set it; each of the many starts of Python would then compile the same files again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

.PHONY: setup
setup: $(VENV)/.stamp ## Make .venv from the lock file

# The stamp holds the lock's hash, not its date: a clone's file dates mean nothing.
.PHONY: $(VENV)/.stamp
$(VENV)/.stamp:
	@./scripts/setup-venv $(VENV) requirements.lock

# What is locked stays as it is, unless UPGRADE=1 asks for the newest that the pins allow.
UV_COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
  --no-header --no-annotate --quiet $(if $(UPGRADE),--upgrade)
# Where PyTorch's CPU build is found, when the package index does not carry it.
UV_SOURCES = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
  $(if $(TORCH_WHEEL),--find-links $(dir $(TORCH_WHEEL)))

.PHONY: lock
lock: setup ## Resolve the pins of pyproject.toml into the lock files
	$(UV_COMPILE) --group dev --output-file requirements.lock
	$(UV_COMPILE) --group engine --override lab/engine/overrides.txt $(UV_SOURCES) \
	  --output-file lab/engine/requirements.lock
	$(UV_COMPILE) --group bench --output-file tests/scale/requirements.lock
	$(UV_COMPILE) --group accuracy --output-file roles/accuracy/files/requirements.lock
	$(UV_COMPILE) --group guidellm $(UV_SOURCES) --output-file roles/bench/files/requirements.lock
	# Resolved without CUDA's packages, and installed with whichever build of PyTorch an index has.
	sed -i 's/^\(torch==.*\)+cpu$$/\1/' roles/bench/files/requirements.lock

.PHONY: docs
docs: setup ## Write the generated parts of docs/ anew
	$(BIN)/python scripts/docs

.PHONY: engine-data
engine-data: setup ## Read a release into recipes/_base/knows: ENGINE=vllm VERSION=0.33.0
	$(BIN)/python scripts/engine-data add "$(ENGINE)" "$(VERSION)"

# At a release. Until then each change adds a fragment (CONTRIBUTING.md).
.PHONY: changelog
changelog: setup ## Turn changelogs/fragments into CHANGELOG.rst for the version of galaxy.yml
	$(BIN)/antsibull-changelog release

.PHONY: lint
lint: lint-python lint-yaml lint-changelog lint-ansible ## Lint and type-check everything

.PHONY: lint-python
lint-python: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: lint-yaml
lint-yaml: setup
	$(BIN)/yamllint --strict .

.PHONY: lint-changelog
lint-changelog: setup
	$(BIN)/antsibull-changelog lint

.PHONY: lint-ansible
lint-ansible: setup
	$(BIN)/python scripts/lint-ansible --offline --strict

# Two more than there are cores: a third of the time is spent waiting for what tests time out on.
.PHONY: unit
unit: setup ## Unit and property tests
	$(BIN)/pytest -q -n $$(( $$(nproc) + 2 )) --dist loadfile

.PHONY: check
check: setup ## Lint and unit tests: the fast tier
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

.PHONY: sanity
sanity: setup ## ansible-test sanity on the built collection
	./scripts/sanity

.PHONY: lab
lab: setup ## Make the lab, or reuse what runs
	$(BIN)/python -m lab up

.PHONY: lab-all
lab-all: setup ## The same, with the images that only tests use
	$(BIN)/python -m lab up --all

.PHONY: lab-down demo-down
lab-down demo-down: ## Remove the lab and restore what it changed on this machine
	$(BIN)/python -m lab down

.PHONY: demo
demo: lab ## Take two bare lab nodes to a verified answer
	$(BIN)/ansible-playbook -i inventories/lab site.yml -l a2-cluster
	$(BIN)/python -m lab tour

# Two scenarios at a time: each waits for its nodes most of it.
.PHONY: molecule
molecule: ## Every Ansible role on real systemd nodes; molecule-SCENARIO for one
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(patsubst molecule/%/molecule.yml,molecule-%,$(wildcard molecule/*/molecule.yml))

molecule-%: lab
	$(BIN)/molecule test -s $*

.PHONY: integration
integration: lab-all ## site.yml on the lab, start to end
	$(BIN)/pytest -q tests/integration -m "not chaos"

.PHONY: chaos
chaos: lab-all ## What takes too long for every run: nodes freed, operations killed in each stage
	$(BIN)/pytest -q tests/integration -m chaos

.PHONY: faults
faults: lab ## Faults injected into lab nodes, each found by its check
	$(BIN)/pytest -q tests/faults

# The page in a real browser, which Debian has as a package of 100 MB; elsewhere BROWSER names one.
# Beside `test`: what needs no browser of it is among the unit tests.
.PHONY: report-browser
report-browser: setup ## playbooks/report.yml's page in headless Chromium; pictures in muster-output
	@[[ -n "$${BROWSER:-}" ]] || command -v chromium-headless-shell chromium google-chrome >/dev/null || \
	  { sudo=(); [[ $$(id -u) -eq 0 ]] || sudo=(sudo); "$${sudo[@]}" apt-get update -qq && \
	  "$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  chromium-headless-shell fonts-dejavu-core; }
	$(BIN)/pytest -q -s tests/report

.PHONY: accuracy
accuracy: setup ## The real lm-evaluation-harness against an engine whose right score is known
	$(BIN)/pytest -q tests/accuracy

.PHONY: guidellm
guidellm: setup ## The real GuideLLM against an engine whose figures are known
	$(if $(TORCH_INDEX),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX)) \
	  $(if $(TORCH_WHEEL),PIP_FIND_LINKS=$(dir $(TORCH_WHEEL))) $(BIN)/pytest -q tests/guidellm

.PHONY: test
test: export HYPOTHESIS_PROFILE := thorough
test: check sanity accuracy molecule faults integration ## Everything

# Beside .venv, which knows nothing of either: pyinfra to compare with, matplotlib to draw with.
BENCH_LOCK := tests/scale/requirements.lock
BENCH_VENV = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/muster-bench/$(shell sha256sum $(BENCH_LOCK) | cut -c-12)

.PHONY: bench-control
bench-control: setup ## The control path against pyinfra and its goals, on the lab: BENCH="--nodes 2 8"
	@mkdir -p $(dir $(BENCH_VENV))
	@[[ -f $(BENCH_VENV)/.stamp ]] || ./scripts/setup-venv $(BENCH_VENV) $(BENCH_LOCK)
	$(BIN)/python tests/scale/control.py --tools $(BENCH_VENV)/bin $(BENCH)
