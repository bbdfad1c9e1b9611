# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SOURCES := libs services sim tests bench scripts conftest.py
WORKERS ?= 3
MODEL ?= gemma-3-270m
PROMPT ?= The capital of France is the city of
PYTEST_ARGS ?=
ARGS ?=
# A room that is named may have no tests of one kind: pytest then exits 5.
NO_TESTS := $(if $(strip $(ARGS)),5,0)
FAST := -m "not slow and not containers" --numprocesses auto --maxprocesses 4
UP_ARGS ?=
SERVICES ?=
SEED ?= 1
TICKS ?= 60

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## make .venv with everything; the command is then .venv/bin/roost

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Roost needs Python 3.11 or newer; this is $$($(PYTHON) --version). Say which one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setting up $(VENV) (once; about a minute)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable ".[all,demo]"
	@touch $@

.PHONY: run
run: $(STAMP) ## a local cluster of real processes, and a first answer from a real model (Ctrl-C stops it)
	@exec $(BIN)/roost up --workers $(WORKERS) --model "$(MODEL)" --prompt "$(PROMPT)" $(UP_ARGS)

.PHONY: test
test: $(STAMP) ## all tests but theory: fast, slow (processes, real models), containers where an engine answers (ARGS="libs/flow -k name": some)
	$(BIN)/pytest $(FAST) $(PYTEST_ARGS) $(ARGS) || [ $$? -eq $(NO_TESTS) ]
	$(BIN)/pytest -m "(slow or containers) and not theory" $(PYTEST_ARGS) $(ARGS) || [ $$? -eq $(NO_TESTS) ]

.PHONY: theory
theory: $(STAMP) ## the simulator against queueing and caching theory, in full (seeded; two minutes)
	$(BIN)/pytest -m theory sim $(PYTEST_ARGS) $(ARGS)

.PHONY: check
check: lint ## lint, and the fast tests (under two minutes)
	$(BIN)/pytest $(FAST) $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## style, types, import contracts, proto checks, generated files unchanged
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check_proto.sh
	$(BIN)/hadolint Dockerfile
	@$(BIN)/python scripts/generate_docs.py --check

.PHONY: fmt
fmt: $(STAMP) ## format code and protos, mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/buf format -w

.PHONY: proto
proto: $(STAMP) ## make libs/api/src/roost/v1 from proto/
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/generate_proto.sh libs/api/src

.PHONY: docs
docs: $(STAMP) ## write the generated parts of docs/ (settings, status codes, metrics, the flow) anew
	@$(BIN)/python scripts/generate_docs.py

.PHONY: up
up: ## the cluster in containers, with Prometheus and Grafana (SERVICES=... for some of them)
	docker compose up --build --detach --wait $(SERVICES)

.PHONY: down
down: ## stop the containers (the model volume stays)
	docker compose --profile load down --remove-orphans

.PHONY: bench
bench: $(STAMP) ## decisions by policy and size; recording them; policies on the same loads; Schedule against an echo; a sidecar; the simulator
	$(BIN)/python bench/bench_decisions.py
	$(BIN)/python bench/bench_recording.py
	$(BIN)/python bench/bench_policies.py
	$(BIN)/python bench/bench_rpc.py
	$(BIN)/python bench/bench_gossip.py
	$(BIN)/python bench/bench_sim.py

.PHONY: sim
sim: $(STAMP) ## replay one run of the gossip simulation (SEED=... TICKS=..., as a failing run prints them)
	$(BIN)/python -m services.gossip.tests.simulation --seed $(SEED) --ticks $(TICKS)

.PHONY: dist
dist: $(STAMP) ## build the sdist and the wheel into dist/
	@rm -rf dist
	$(BIN)/python -m build --outdir dist .

.PHONY: release
release: $(STAMP) ## check that this commit is what a release needs, build it, and say how to tag it
	@$(BIN)/python scripts/check_release.py
	@$(MAKE) --no-print-directory dist

.PHONY: clean
clean: ## remove .venv, caches and logs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache logs dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
