# Every target makes the environment it needs; `make` alone says what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked

# The first interpreter that runs and is new enough; PYTHON=… overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: help setup demo dev test bench lint types format lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(LOCKED): requirements.lock pyproject.toml lipservice_sampler/pyproject.toml
	@test -n "$(PYTHON)" || { echo "LipService needs Python 3.11, 3.12 or 3.13 on the PATH; found none. Install one, or say which: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV) with $(PYTHON); on Debian and Ubuntu, install its venv package (apt install python3-venv)" >&2; exit 1; }
	@echo "Installing the locked versions into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -E '^uv==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e lipservice_sampler -e .
	@$(BIN)/python -m lipservice_dagster.defs.marts_translated
	@touch $@

setup: $(LOCKED) ## make .venv with the locked versions and the command .venv/bin/lipservice

demo: $(LOCKED) ## demo logs through the whole graph on an embedded stack; prints what it found and ends
	@$(BIN)/lipservice demo

dev: $(LOCKED) ## the embedded stack with the Dagster UI and the HTTP API, until Ctrl-C
	@$(BIN)/lipservice dev $(if $(PORT),--port $(PORT))

test: $(LOCKED) ## the whole test suite
	@$(BIN)/python -m pytest -n 2

bench: $(LOCKED) ## benchmarks against peers, into docs/benchmarks.md (DATA=folder with labelled logs)
	@$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

lint: $(LOCKED) ## ruff: format and rules
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(LOCKED) ## mypy
	@$(BIN)/mypy

format: $(LOCKED) ## let ruff rewrite what it can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: $(LOCKED) ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
		--no-emit-package lipservice-sampler --no-annotate --no-header --quiet -o requirements.lock

clean: ## remove the environment and the caches (the embedded stack's data stays)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
