# Quorate: one place for every chore. `make` alone lists the targets.
# Needs Python 3.11 or newer and make; everything else goes into .venv, pinned and hashed.

PYTHON ?= python3
UV ?= uv
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Three workers on two cores: a third of the time is waiting, for real processes. Slow tests take a second or ten
# minutes, so a worker that has none left takes the other's.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal

# Tests start a thousand processes; where the environment forbids bytecode, each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up test test-slow test-interpreters verify lint types tidy links fix bench bench-comet compiled news requirements clean

help: ## List the targets
	@echo "usage: make TARGET [ARGS='...']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

up: $(STAMP) ## Start a cluster on this machine: make up ARGS='--protocol raft'
	@$(BIN)/quorate up $(ARGS)

test: $(STAMP) ## Run the fast tests; ARGS go to pytest: make test ARGS='tests/test_tidy.py -k layer'
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## Run the long campaigns and tortures
	@$(PYTEST) -m slow -o timeout=1800 $(ARGS)

test-interpreters: ## Run what depends on the interpreter on the others that this machine has
	@PYTHON='$(PYTHON)' .ci/interpreters $(ARGS)

# CI runs `make test` first and then `make verify TESTED=1`, so that the same checkout is not tested twice.
ifeq ($(TESTED),1)
verify: lint types tidy links ## The gate, changes no file: lint, types, tidy, links, tests (TESTED=1: the tests ran already)
	@echo "verify: good; tests not run again (TESTED=1)"
else
verify: lint types tidy links test
	@echo "verify: good"
endif

lint: $(STAMP) ## Check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## Check the types, strictly
	@$(BIN)/mypy
	@set -e; for folder in $(sort $(dir $(wildcard examples/*.py examples/*/*.py))); do $(BIN)/mypy $$folder*.py; done

tidy: $(STAMP) ## Check the house rules: layers, determinism, sizes, docstrings
	@$(BIN)/python -m tests.tidy rules

links: $(STAMP) ## Check that Markdown links inside the repository resolve
	@$(BIN)/python -m tests.tidy links

fix: $(STAMP) ## Mend what can be mended: imports, lint, format
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Measure against etcd, which is built with Go
	@$(BIN)/python -m bench $(ARGS)

bench-comet: $(STAMP) ## Measure a chain beside one of CometBFT on this machine
	@$(BIN)/python -m bench.comet $(ARGS)

compiled: $(STAMP) ## Compile the simulator into build/compiled (needs setuptools and a C compiler)
	@$(BIN)/python -m bench.compiled $(ARGS)

news: $(STAMP) ## Show the next release notes, from the fragments in news/
	@$(BIN)/towncrier build --draft

requirements: ## Pin the requirements anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "make requirements: uv is not installed; name it with UV=/path/to/uv" >&2; exit 1; }
	@set -e; compile='$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url'; \
	$$compile --custom-compile-command 'make requirements' pyproject.toml -o requirements/run.txt; \
	$$compile --custom-compile-command 'make requirements' pyproject.toml --extra dev -c requirements/run.txt -o requirements/dev.txt

clean: ## Remove .venv, caches and build output; keeps data/
	rm -rf $(VENV) .venv-3.* .mypy_cache .ruff_cache .hypothesis .pytest_cache build dist
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp is touched last: whatever fails before leaves none, and the next `make` starts over.
$(STAMP): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not installed; as root: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Quorate needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." \
	       "Name another one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; as root: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing Quorate and its tools into $(VENV) (up to a minute, the first time only) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
