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
# Whoever checks what is installed stands outside it: an environment of its own, made when it is first asked for.
TOOLS   := $(VENV)/tools
CHECKED := $(TOOLS)/.installed
PIP     := -m pip install --quiet --disable-pip-version-check
# Nothing is installed whose hash we do not know, nor anything fetched to build our own package.
LOCKED  := $(PIP) --require-hashes
OURS    := $(PIP) --no-index --no-deps --no-build-isolation --editable ./sdk
# Each lock is for every system and Python we run on. What it has stays as it is, unless ARGS=--upgrade.
LOCK    := $(TOOLS)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" \
	--no-emit-package jobplatform-sdk

.DEFAULT_GOAL := help
.PHONY: help venv demo up doctor test bench lock audit bill clean

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

lock: $(CHECKED) ## write the locks anew from requirements*.txt (ARGS=--upgrade: also what they only imply)
	$(LOCK) $(ARGS) requirements.txt --output-file requirements.lock
	$(LOCK) $(ARGS) requirements-dev.txt --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) $(ARGS) requirements-tools.txt --output-file requirements-tools.lock

audit: $(CHECKED) $(DEV) ## known holes of all that is locked (asks the package index), and secrets in the whole history
	$(TOOLS)/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes $(foreach lock,$(wildcard requirements*.lock),--requirement $(lock)) $(ARGS)
	$(BIN)/python -m supply.leaks --history

bill: $(DEV) ## what is installed, with its licences, as CycloneDX; writes var/bill.json
	@$(BIN)/python -m supply.bill $(ARGS)

clean: ## remove .venv and caches; the platform's data in var/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older or missing. Try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.lock sdk/pyproject.toml | $(BIN)/python
	$(BIN)/python $(LOCKED) -r requirements.lock
	$(BIN)/python $(OURS)
	@touch $@

$(DEV): requirements-dev.lock requirements.lock sdk/pyproject.toml | $(BIN)/python
	$(BIN)/python $(LOCKED) -r requirements-dev.lock
	$(BIN)/python $(OURS)
	@touch $(RUNTIME) $@

$(CHECKED): requirements-tools.lock | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python $(LOCKED) -r requirements-tools.lock
	@touch $@
