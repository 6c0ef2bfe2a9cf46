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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: pipeline
pipeline: .venv/installed ## set up, then run the whole pipeline: digits in, registered model out
	$(BIN)/lenet5 run

.PHONY: test
test: .venv/installed ## set up, then run every test but those below (ten to twenty minutes on two cores)
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal -m "not (stack or long)"

.PHONY: test-stack
test-stack: .venv/installed ## test servers and workers, from a night to a power cut (ten minutes or more)
	$(BIN)/pytest -m "stack and not long"

.PHONY: test-long
test-long: .venv/installed ## test what takes longest: sweeps and trainings spread over a pool, among others (twenty minutes)
	$(BIN)/pytest -m long

.PHONY: check
check: .venv/installed ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

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
bench: .venv/installed ## measure the figures that the README quotes; PARTS="time rate" measures some, SEEDS=10 more often
	test -f models/lenet5.keras || $(BIN)/dvc repro
	$(BIN)/python -m benchmarks --seeds $(or $(SEEDS),5) $(PARTS)

.PHONY: setup
setup: .venv/installed ## only set up: .venv with the locked packages and this one

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml
IMAGE := $(COMPILE) --no-annotate --constraint requirements.lock --extra server

.PHONY: lock
lock: .venv/installed ## choose versions anew and write the locks (all platforms, hashes)
	$(COMPILE) --extra dev --extra s3 --output-file requirements.lock
	$(IMAGE) --output-file docker/requirements.lock
	$(IMAGE) --extra gpu --output-file docker/requirements-gpu.lock

.PHONY: clean
clean: ## remove the environment and the tools' caches; runs, models and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .lenet5/uv

# uv comes out of the lock, too, by its hash; it then installs the rest in half a minute.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
		"error: Python %d.%d cannot be used\n  expected: 3.11, 3.12 or 3.13\n  fix:      make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv --clear .venv
	awk '/^[a-z0-9]/ {keep = /^uv==/} keep' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
