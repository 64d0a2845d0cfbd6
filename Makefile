# One command for each thing that is done often; `make` alone lists them.
# ARGS goes to the tool behind the command: make quick ARGS='-k resume'.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
LANES ?=
SITE ?= build/site

.DEFAULT_GOAL := help
.PHONY: help setup hooks quick test slow servers engines stores examples bench docs docs-check site
.PHONY: check ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: ## everything that is needed, into .venv, the package as it stands here
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'

hooks: ## let git run the checks before each commit
	$(BIN)/pre-commit install

quick: ## the quick tests, below a minute
	$(BIN)/pytest -q -n 2 tests/unit tests/test_habits.py $(ARGS)

test: ## all tests, with what they cover
	$(BIN)/pytest -q -n 2 -m 'slow or not slow' --cov $(ARGS)

slow: ## the slow lanes, about an hour, figures at the end; LANES='soak flat' for some of them
	$(BIN)/python scripts/slow_lanes.py $(LANES)

servers: ## install the real model servers (2.6 GB, some minutes), and test against them
	$(BIN)/python tests/servers/install.py
	$(BIN)/pytest -q tests/servers $(ARGS)

engines: ## install the engines (a GB; Spark needs Java 17, too), and test with them
	$(BIN)/pip install --quiet --editable '.[ray,spark]'
	$(BIN)/pytest -q -m 'slow or not slow' tests/engines $(ARGS)

stores: ## install real object stores (SeaweedFS; Azurite where npm is), and test against them
	$(BIN)/python tests/clouds/install.py
	STORE_SERVER=seaweedfs $(BIN)/pytest -q tests/stores $(ARGS)
	$(BIN)/pytest -q tests/clouds $(ARGS)

examples: ## install what the examples of pipelines need (Dagster; 300 MB), and run them
	$(BIN)/pip install --quiet --requirement examples/pipelines/requirements.txt
	$(BIN)/pytest -q tests/pipelines tests/orchestrators $(ARGS)

bench: ## the benchmark, some ten minutes; ARGS=--quick for few rows
	$(BIN)/python benchmarks/run.py $(ARGS)

docs: ## write what is generated in docs/ anew
	$(BIN)/python scripts/write_docs.py

docs-check: ## is what is generated in docs/ up to date?
	$(BIN)/python scripts/write_docs.py --check

site: ## build the site from the pages, into build/site
	$(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx -q -W -n --keep-going -c docs . $(SITE)

check: docs-check ## style, types, layers, docs, habits: what the hooks look at, half a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_habits.py
	git diff --check HEAD

ci: ## all that must pass before work lands, in a clone of its own
	bash .ci/run
