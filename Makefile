# Everything a person or CI does here. `make` alone prints what there is.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin

# Without compiled bytecode, every process that imports TensorFlow starts seconds later, and every process that
# imports this package starts some tenths of a second later.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
# Other code and other places than those of .venv.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
# A busy machine takes longer than uv's limit of 60 seconds.
export UV_COMPILE_BYTECODE_TIMEOUT ?= 0
# Nothing is written to the home folder; a cache of your own wins.
export UV_CACHE_DIR ?= $(CURDIR)/.lenet5/uv
# Certificates are the system's, so that a company's own are trusted.
export UV_SYSTEM_CERTS ?= 1
# DVC calls `lenet5` and `python`: those of this environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: pipeline
pipeline: .venv/installed ## set up, then run the whole pipeline: digits in, registered model out
	$(BIN)/lenet5 run

# A group of tests runs in one process, with one server or one project for all of them. Tests also wait, for the disk
# and for other programs, so one process more than there are processors is faster.
PROCESSES = $$($(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
PARALLEL = --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder
# OpenBLAS waits for its threads in a loop, which takes the processors from the other processes.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/pytest

.PHONY: test-fast
test-fast: .venv/installed-dev ## run the tests that need neither TensorFlow nor a server (a minute or two on two cores)
	$(PYTEST) $(PARALLEL) --fast

.PHONY: test
test: .venv/installed-dev ## run every test that needs no server, except the longest (four to eight minutes on two cores)
	$(PYTEST) $(PARALLEL) -m "not (integration or stack or long)"

.PHONY: test-integration
test-integration: .venv/installed-dev ## run the tests that start servers, workers, flows or other programs, except the longest (fifteen to twenty minutes)
	$(PYTEST) $(PARALLEL) -m "(integration or stack) and not long"

.PHONY: test-all
test-all: .venv/installed-dev ## run every test there is (an hour on two cores)
	$(PYTEST) $(PARALLEL)

.PHONY: portability
portability: ## run the pipeline in a fresh clone on another Python: make portability PYTHON=python3.13
	.ci/python $(PYTHON)

.PHONY: coverage
coverage: .venv/installed-dev ## run the tests of `make test`, then print which lines they miss in the ten weakest files
	$(PYTEST) $(PARALLEL) -m "not (integration or stack or long)" --cov --cov-report=
	$(BIN)/coverage report --sort cover | awk 'NR <= 12 || /^TOTAL/'

.PHONY: check
check: .venv/installed-dev ## check style, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: audit
audit: .venv/installed-dev ## search for known vulnerabilities, dangerous code and secrets; NETWORK=required allows no gap
	$(BIN)/python tools/audit.py $(if $(filter required,$(NETWORK)),--require-all)

.PHONY: ui
ui: .venv/installed ## serve the MLflow and Prefect UIs on this machine
	$(BIN)/lenet5 ui

.PHONY: secrets
secrets: ## make the stack's passwords in secrets/; those that are there stay
	@$(PYTHON) docker/make_secrets.py secrets

.PHONY: up
up: secrets ## start PostgreSQL, S3, MLflow, Prefect and a worker in containers
	docker compose up --detach --build --wait
	@echo "MLflow   http://$$(docker compose port mlflow 5000)   user admin, password in secrets/mlflow_admin_password"
	@echo "Prefect  http://$$(docker compose port prefect 4200)   user:password in secrets/prefect_auth"
	@echo "Next: make deploy"

.PHONY: deploy
deploy: ## give the running stack its deployments
	docker compose exec worker lenet5 deploy

.PHONY: logs
logs: ## follow what the stack says
	docker compose logs --follow --tail 100

.PHONY: down
down: ## stop the stack; its data stays in named volumes
	docker compose --profile '*' down

.PHONY: smoke
smoke: ## bring up a stack of its own from nothing, train in it, check it, remove it
	$(PYTHON) docker/smoke.py

.PHONY: bench
bench: .venv/installed-dev ## measure the figures that the README quotes; PARTS="time rate" measures some, SEEDS=10 more often
	test -f models/lenet5.keras || $(BIN)/dvc repro
	$(BIN)/python -m benchmarks --seeds $(or $(SEEDS),5) $(PARTS)

.PHONY: screenshots
screenshots: .venv/installed-dev ## make the pictures of MLflow, Prefect and the reports in docs/images (needs Chromium; ten minutes)
	$(BIN)/python -m tools.screenshots

.PHONY: soak
soak: .venv/installed-dev ## measure what grows in 200 flow runs on servers (hours); RUNS=20 makes fewer
	$(BIN)/python -m benchmarks.soak --runs $(or $(RUNS),200)

.PHONY: setup
setup: .venv/installed ## only set up: .venv with what the pipeline needs, and this package
	@echo "Next: make pipeline"

# `make lock` chooses the newest versions; `make lock UPGRADE=` keeps those that are locked, and adds what is missing.
UPGRADE := --upgrade
COMPILE := $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml
# The other locks are subsets of requirements-dev.lock, with its versions. This order always has a solution.
SUBSET := $(COMPILE) --no-annotate --constraint requirements-dev.lock

.PHONY: lock
lock: .venv/installed-dev ## choose versions anew and write the locks (all platforms, hashes)
	$(COMPILE) --extra dev --output-file requirements-dev.lock
	$(SUBSET) --extra setup --output-file requirements.lock
	$(SUBSET) --extra server --output-file docker/requirements.lock
	$(SUBSET) --extra server --extra gpu --output-file docker/requirements-gpu.lock
	$(subst pyproject.toml,--group pyproject.toml:serve,$(SUBSET)) --output-file docker/requirements-serve.lock

.PHONY: clean
clean: ## remove the environment and the tools' caches; runs, models and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .lenet5/uv

# The file holds the folder that was set up, because programs in .venv/bin start with that path. In a folder that
# was moved or copied it names another one; .PHONY then makes the rule run again.
ifneq ($(shell test -x $(BIN)/python && cat .venv/installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/installed
endif

# The lock is complete, so nothing has to be resolved.
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes --requirements
# On a terminal, uv shows what it downloads, with the size of each package and a bar; elsewhere it prints nothing.
PROGRESS := $(shell test -t 2 || echo --quiet)
# uv counts the packages that are missing: for this platform, and without those that are installed.
MISSING = $$($(INSTALL) $(1) --dry-run 2>&1 | awk '/^Would install/ {print $$3}')

# uv comes out of the lock, too, by its hash; it then installs the rest.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
		"error: Python %d.%d cannot be used\n  expected: 3.11, 3.12 or 3.13\n  fix:      make PYTHON=python3.12 ..." % v)'
	@test ! -s $@ || test "$$(cat $@)" = "$$(pwd -P)" \
		|| echo "This folder was set up as $$(cat $@) and is $$(pwd -P) now: it is set up again."
	@echo "Creating .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear .venv
	@awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@echo "Downloading $(call MISSING,requirements.lock) packages that the pipeline needs:" \
		"about 0.9 GB, half of it TensorFlow; one to two minutes."
	@echo "They are kept in .venv; the downloads in $(UV_CACHE_DIR). \`make clean\` removes .venv and .lenet5/uv."
	@$(INSTALL) requirements.lock $(PROGRESS)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@pwd -P > $@
	@echo "Installed: .venv has $$(du -sh .venv | cut -f 1)."

# requirements-dev.lock holds requirements.lock in the same versions, so this only adds packages.
.venv/installed-dev: .venv/installed requirements-dev.lock
	@echo "Downloading $(call MISSING,requirements-dev.lock) more packages for tests and checks:" \
		"about 0.3 GB, kept in .venv."
	@$(INSTALL) requirements-dev.lock $(PROGRESS)
	@touch $@
	@echo "Installed: .venv has $$(du -sh .venv | cut -f 1)."
