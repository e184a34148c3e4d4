# Each command does its own set-up under build/; `make help` lists them.
# Needed on the machine: Python 3.11, Terraform 1.11 or newer, GNU make 3.81 or newer.

ifneq (3.81,$(firstword $(sort 3.81 $(MAKE_VERSION))))
$(error GNU make $(MAKE_VERSION) is too old: install 3.81 or newer, e.g. 'apt install make' or 'brew install make')
endif

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Every AWS call of these commands goes to LocalStack: neither a profile nor keys of the person's own are ever used.
export AWS_ACCESS_KEY_ID := test
export AWS_SECRET_ACCESS_KEY := test
export AWS_CONFIG_FILE := /dev/null
export AWS_SHARED_CREDENTIALS_FILE := /dev/null
export AWS_EC2_METADATA_DISABLED := true
unexport AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_CA_BUNDLE

# Caches lie under build/ too, so that a read-only or missing home folder is no obstacle.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/cache/pycache
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/cache/hypothesis

PYTHON := build/venv/bin/python
VENV := build/venv/.ready
LOCALSTACK := build/localstack-venv/.ready

.PHONY: help demo test up down env lint format draw build lock clean terraform-check

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: terraform-check $(VENV) $(LOCALSTACK) ## watch messages being delivered until they are ACKed (4 minutes); WORKFLOW=name: by that workflow
	@$(PYTHON) -m scripts.demo $(if $(WORKFLOW),--workflow $(WORKFLOW))

test: terraform-check $(VENV) $(LOCALSTACK) ## all tests, layer by layer (under 25 minutes)
	@$(PYTHON) -m scripts.check test

up: terraform-check $(VENV) $(LOCALSTACK) ## start the stack on LocalStack and leave it running (build/stack.json)
	@$(PYTHON) -m scripts.stack up

down: $(VENV) ## stop what `make up` started
	@$(PYTHON) -m scripts.stack down

env: $(VENV) ## print the shell variables for the running stack: eval "$(make -s env)"
	@$(PYTHON) -m scripts.stack env

lint: terraform-check $(VENV) $(LOCALSTACK) ## format, types, imports, Terraform
	@$(PYTHON) -m scripts.check lint

format: terraform-check $(VENV) ## put the sources into the format that lint wants
	@$(PYTHON) -m scripts.check format

draw: $(VENV) ## draw the workflows' definitions into docs/workflows.md, and count what they cost
	@$(PYTHON) -m scripts.draw

build: $(VENV) ## the functions' packages: build/package-arm64-py313.zip (AWS), build/package-local.zip
	@$(PYTHON) -m scripts.build

lock: $(VENV) ## pin requirements*.in anew into requirements*.txt
	@$(PYTHON) -m scripts.check lock

clean: ## stop what `make up` left running and remove build/
	@if [ -f $(VENV) ]; then $(PYTHON) -m scripts.stack down --if-running; fi
	@rm -rf build

terraform-check:
	@scripts/setup.sh terraform

$(VENV): requirements.txt requirements-dev.txt scripts/setup.sh
	@scripts/setup.sh python

$(LOCALSTACK): scripts/localstack/requirements.txt scripts/localstack/requirements-test.txt \
		scripts/localstack/pyproject.toml scripts/setup.sh
	@scripts/setup.sh localstack
