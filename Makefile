# llmbench: every developer command. The environment is made on first use and again when the dependencies change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Or each of three workers, and every program that a test starts, compiles all of llmbench and its tests anew.
export PYTHONDONTWRITEBYTECODE :=
# Files that assert on figures, rates, memory or leases' terms: what else runs would be in them.
TIMED := tests/measure tests/providers/test_truth.py tests/providers/test_bedrock_credentials.py \
         tests/providers/test_bedrock_runs.py tests/providers/test_vertex_tokens.py tests/providers/test_daemon_thread.py \
         tests/cli/test_calibrate.py tests/simulator/test_timing.py tests/e2e/test_bench.py tests/e2e/test_clouds.py \
         tests/e2e/test_sharing.py tests/faults/test_outage.py tests/faults/test_provider_faults.py \
         tests/faults/test_stream_faults.py

.DEFAULT_GOAL := help
.PHONY: help install demo test faults check lint format types imports bench figures screenshots clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-11s %s\n", $$1, $$2 }'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'llmbench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …' >&2; exit 2; }
	@echo 'installing llmbench and what it needs into $(VENV) (a minute or two, once)' >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

install: $(READY) ## make the environment in .venv

demo: $(READY) ## benchmark every provider through the simulator, into llmbench-demo.db
	@$(BIN)/llmbench demo

test: $(READY) ## run the tests: three files at a time, but those that measure alone
	@$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(TIMED:%=--ignore=%)
	@$(BIN)/python -m pytest $(TIMED)

faults: $(READY) ## the fault tests, with far more kills than make test has
	@$(BIN)/python -m pytest tests/faults tests/conformance --long

lint: $(READY) ## look for mistakes and bad habits
	@$(BIN)/ruff check .

format: $(READY) ## is everything formatted?
	@$(BIN)/ruff format --check .

types: $(READY) ## check the types, strictly
	@$(BIN)/mypy

imports: $(READY) ## do imports point the way the design says?
	@$(BIN)/lint-imports

check: lint format types imports test ## all that CI runs

bench: $(READY) ## accuracy, cost, storing, start-up, bridge: measured, side by side with a plain SDK loop
	@$(BIN)/python -m benchmarks

figures: $(READY) ## size of functions and modules against the house's budget
	@$(BIN)/python benchmarks/figures.py

screenshots: $(READY) ## make the pictures in docs/screenshots, from a simulated day
	@$(BIN)/python -m tests.tui.screenshots

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
