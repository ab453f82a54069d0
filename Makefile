# Needs only Python 3.11 to 3.13 (with venv), git and make. Everything else goes into .venv, by the lock files.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

# In memory where the system has a place for that: the tests write much, and all of it is thrown away.
TEST_TMPDIR ?= $(shell test "$$(df -m --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4000 2>/dev/null \
	&& echo /dev/shm || echo "$${TMPDIR:-/tmp}")

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Compiled once, not by each of the processes that the tests run in and start: images for containers often forbid it.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-input
# A lock file names all there is to install. Left to choose, pip takes a newer release for an extra (coverage[toml]).
PIP_LOCKED := $(PIP_INSTALL) --no-deps --require-hashes
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header pyproject.toml --extra postgresql --extra notify --group build

.DEFAULT_GOAL := help
.PHONY: help run test test-containers coverage check format bench docs lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | while IFS='	' read -r name what; do \
		printf '  make %-15s %s\n' "$$name" "$$what"; done

run: $(VENV)/run.stamp ## Run the server at http://localhost:3000, with sample badges and daily proven backups
	@$(BIN)/python -m tools.first_run
	@exec $(BIN)/obms serve $(ARGS)

test: $(VENV)/dev.stamp ## Run the tests; PostgreSQL comes along. ARGS="-k word" chooses some
	@# Eight for two cores: they wait much, for servers that are made to fail.
	@TMPDIR=$(TEST_TMPDIR) $(BIN)/python -m pytest -n 8 --dist worksteal $(ARGS)

test-containers: $(VENV)/dev.stamp ## Type the guide's commands, with a Docker engine; a line for each
	@# The first test waits for the images.
	@$(BIN)/python -m pytest -q -s -p no:xdist -o faulthandler_timeout=1200 tests/containers $(ARGS)

coverage: $(VENV)/dev.stamp ## Measure what the tests of backup/ and databases/ reach; fails under 100 %
	@# In the processes that the tests start too.
	@TMPDIR=$(TEST_TMPDIR) $(BIN)/python -m pytest -n 3 --dist worksteal -q --both \
		--cov=obms.backup --cov=obms.databases --cov-report=term --cov-fail-under=100 \
		tests/backup tests/databases tests/faults/test_judges.py tests/cli tests/test_metrics.py $(ARGS)

check: $(VENV)/dev.stamp ## Check style, types and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile tests/containers/postgres/Dockerfile

format: $(VENV)/dev.stamp ## Format the code
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

bench: $(VENV)/dev.stamp ## Measure against the usual commands. ARGS="--credentials 100000" for less
	@$(BIN)/python -m benchmarks.compare_faults
	@$(BIN)/python -m benchmarks.http
	@$(BIN)/python -m benchmarks.stall
	@$(BIN)/python -m benchmarks.moving $(ARGS)
	@$(BIN)/python -m benchmarks.bench $(ARGS)

docs: $(VENV)/dev.stamp ## Write the generated tables of docs/reference again
	@$(BIN)/python -m docs.generate

lock: ## Choose versions again (needs uv)
	$(LOCK) --upgrade -o requirements.lock
	$(LOCK) --upgrade --group dev -c requirements.lock -o requirements-dev.lock

clean: ## Remove what make has made: .venv and caches, never data, backups or .env
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .bench build dist
	rm -f .coverage .coverage.*
	find src tests tools docs benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "This needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another: make PYTHON=python3.11 ..." >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV)"
	@$(PIP_LOCKED) -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "Installing what the tests need into $(VENV)"
	@$(PIP_LOCKED) -r requirements-dev.lock
	@touch $@
