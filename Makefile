# TaskFlow from a fresh clone: `make run`, `make test`. Needs Python 3.11 or newer; everything else goes into .venv.
.DEFAULT_GOAL := help
.PHONY: help run cluster deploy test chaos check templates format bench lock clean
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
# Any of these that is 3.11 or newer; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PYTEST_WORKERS ?= 4
ARGS ?=

# Bytecode is written where it is first needed; without it every process of ours would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

# The stamps carry what the environment was made from: nothing changed, nothing to do.
INPUTS := $(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | tr -d ' ')
RUN_STAMP := $(VENV)/.installed-run-$(INPUTS)
CLUSTER_STAMP := $(VENV)/.installed-cluster-$(INPUTS)
DEPLOY_STAMP := $(VENV)/.installed-deploy-$(INPUTS)
DEV_STAMP := $(VENV)/.installed-dev-$(INPUTS)
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# uv installs in seconds what takes pip minutes. Where only pip has been told of the packages' index, pip does it.
install = $(BIN)/uv pip install -q --python $(BIN)/python $(2) $(1) 2>/dev/null || $(PIP) install $(1)
CHECKED := src $(wildcard examples benchmarks lambdas cdk deployment docs deploy.py)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## Run TaskFlow with the sample tasks on http://127.0.0.1:8000
	@PYTHONPATH=. TASKFLOW_TASKS="$${TASKFLOW_TASKS-examples.sample_tasks}" exec $(BIN)/taskflow dev $(ARGS)

cluster: $(CLUSTER_STAMP) ## Run it as on AWS: 3 API instances, 2 workers, PostgreSQL, SQS and S3 emulated
	@PYTHONPATH=. TASKFLOW_TASKS="$${TASKFLOW_TASKS-examples.sample_tasks}" exec $(BIN)/taskflow cluster $(ARGS)

deploy: $(DEPLOY_STAMP) ## Deploy to AWS: ARGS="plan --profile dev", see docs/deploy-reference.md
	@exec $(BIN)/python deploy.py $(ARGS)

test: $(DEV_STAMP) ## Run every test in parallel (ARGS="-k name" for some)
	@exec $(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(ARGS)

chaos: $(DEV_STAMP) ## Kill and cut off a cluster for 50 rounds, then look for what was lost (20 minutes)
	@TASKFLOW_TEST_CHAOS_ROUNDS=$${TASKFLOW_TEST_CHAOS_ROUNDS-50} exec $(BIN)/python -m pytest -q -s tests/acceptance/distributed $(ARGS)

check: $(DEV_STAMP) ## Format, lint, types, import layers, lock file, templates
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(CHECKED)
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m cdk.templates --check
	@if grep -nE '://|^-|@ |(^|[ =])/' requirements.lock; then \
		echo 'requirements.lock must name no host, path or option'; exit 1; fi

templates: $(DEV_STAMP) ## Write cloudformation/ anew from cdk/
	@$(BIN)/python -m cdk.templates

format: $(DEV_STAMP) ## Format the code and fix what can be fixed
	@$(BIN)/ruff check --fix-only -q . && $(BIN)/ruff format .

bench: $(DEV_STAMP) ## Measure speed and memory (benchmarks/)
	@exec $(BIN)/python -m benchmarks $(ARGS)

lock: $(DEV_STAMP) ## Pin the newest allowed versions in requirements.lock
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --extra aws --extra deploy --extra dev \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		pyproject.toml -o requirements.lock

clean: ## Remove caches and the environment; local data in .taskflow stays
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
		echo 'TaskFlow needs Python 3.11 or newer (Debian, Ubuntu: sudo apt-get install python3 python3-venv)' >&2; \
		exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python cannot make virtual environments (Debian, Ubuntu: sudo apt-get install python3-venv)" >&2; \
		exit 1; fi; \
	echo "Creating $(VENV) with $$python" && rm -rf $(VENV) && "$$python" -m venv $(VENV)

$(BIN)/uv: | $(BIN)/python
	@$(PIP) install -c requirements.lock uv

# What runs needs no development tools: the lock file serves as constraints.
$(RUN_STAMP): | $(BIN)/uv
	@echo 'Installing TaskFlow into $(VENV)'
	@$(call install,-c requirements.lock hatchling editables)
	@$(call install,-c requirements.lock --no-build-isolation -e .,--compile-bytecode)
	@rm -f $(VENV)/.installed-run-* && touch $@

$(CLUSTER_STAMP): $(RUN_STAMP)
	@echo 'Installing what the cluster needs into $(VENV)'
	@$(call install,-c requirements.lock --no-build-isolation -e '.[cluster]',--compile-bytecode)
	@rm -f $(VENV)/.installed-cluster-* && touch $@

$(DEPLOY_STAMP): $(RUN_STAMP)
	@echo 'Installing what deploy.py needs into $(VENV)'
	@$(call install,-c requirements.lock --no-build-isolation -e '.[deploy]',--compile-bytecode)
	@rm -f $(VENV)/.installed-deploy-* && touch $@

$(DEV_STAMP): | $(BIN)/uv
	@echo 'Installing TaskFlow and its development tools into $(VENV)'
	@$(call install,-r requirements.lock)
	@$(call install,--no-deps --no-build-isolation -e .)
	@rm -f $(VENV)/.installed-dev-* && touch $@
