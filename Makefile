# `make` prints its verbs. Each brings its own virtual environment up to date first; nothing is installed elsewhere.
PYTHON  ?= python3
VENV    ?= .venv
DIR     ?= .
ARGS    ?=
# One more than two cores: acceptance tests wait for processes, leases and retries more than they compute.
WORKERS ?= 3
# What runs again on MongoDB's wire protocol every time; STORE_TESTS=tests: all that touches the task store.
STORE_TESTS ?= tests/contracts tests/faults tests/integration/tasks

BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV     := $(VENV)/.dev-installed
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv demo up doctor test bench clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(DEV) ## make or refresh .venv (PYTHON=python3.12 picks another Python)

demo: $(RUNTIME) ## the main job on real files: DIR=path (default: this tree), ARGS=--exit to end by itself
	@$(BIN)/python -m demo --dir "$(DIR)" $(ARGS)

up: $(RUNTIME) ## start the whole platform; Ctrl-C stops it (ARGS="--port 0 …", see manage.py up --help)
	@$(BIN)/python manage.py up $(ARGS)

doctor: $(RUNTIME) ## check every dependency and say how to mend what is wrong
	@$(BIN)/python manage.py doctor $(ARGS)

test: $(DEV) ## lint, import rules, the whole suite, then the store's tests on MongoDB's wire protocol
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)
	$(BIN)/python -m pytest -n $(WORKERS) -m store --tasks-db=mongodb $(ARGS) $(STORE_TESTS)

bench: $(DEV) ## throughput and latency beside raw Celery; writes var/bench/latest.json
	@$(BIN)/python -m bench $(ARGS)

clean: ## remove .venv and caches; the platform's data in var/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older or missing. Try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.txt sdk/pyproject.toml | $(BIN)/python
	$(PIP) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements.txt sdk/pyproject.toml | $(BIN)/python
	$(PIP) -r requirements-dev.txt
	@touch $(RUNTIME) $@
