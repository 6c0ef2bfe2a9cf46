# Everything a person or CI does here. `make` alone prints what there is.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin

# Without compiled bytecode every process that imports TensorFlow starts seconds later.
export UV_COMPILE_BYTECODE := 1
# Nothing is written to the home folder; a cache of your own wins.
export UV_CACHE_DIR ?= $(CURDIR)/.lenet5/uv
# Certificates are the system's, so that a company's own are trusted.
export UV_SYSTEM_CERTS ?= 1
# DVC calls `lenet5` and `python`: those of this environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: pipeline
pipeline: .venv/installed ## set up, then run the whole pipeline: digits in, registered model out
	$(BIN)/lenet5 run

.PHONY: test
test: .venv/installed ## set up, then run every test (about ten minutes on two cores)
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: check
check: .venv/installed ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: ui
ui: .venv/installed ## serve the MLflow and Prefect UIs on this machine
	$(BIN)/lenet5 ui

.PHONY: bench
bench: .venv/installed ## measure the figures that the README quotes
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.pipeline

.PHONY: setup
setup: .venv/installed ## only set up: .venv with the locked packages and this one

.PHONY: lock
lock: .venv/installed ## choose versions anew and write requirements.lock (all platforms, hashes)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --extra dev --extra s3 pyproject.toml --output-file requirements.lock

.PHONY: clean
clean: ## remove the environment and the tools' caches; runs, models and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .lenet5/uv

# uv comes out of the lock, too, by its hash; it then installs the rest in half a minute.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
		"error: Python %d.%d cannot be used\n  expected: 3.11, 3.12 or 3.13\n  to do:    make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv --clear .venv
	awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
