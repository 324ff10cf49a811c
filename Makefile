# `make` or `make help` lists the targets. ENV is local (the default), localstack, staging or production.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# If set, every dekctl process compiles its modules again, which takes a second.
unexport PYTHONDONTWRITEBYTECODE

ENV ?= local
ENVS := local localstack staging production
ifeq ($(filter $(ENV),$(ENVS)),)
$(error ENV is '$(ENV)'; it must be one of: $(ENVS))
endif

## ---- Python -------------------------------------------------------------------------------------

VENV := .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Options for the dekctl command of a target: make scrub ARGS=--yes
ARGS ?=
DEKCTL = $(CLOUD_ENV) DEKCTL_ENDPOINT=$(DEKCTL_ENDPOINT) DEKCTL_MAKE_ENV=$(ENV) $(VENV)/bin/dekctl --env $(ENV)
TOOL = PYTHONPATH=tooling $(VENV)/bin/python

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(call INSTALL,requirements/dev.txt)
	@touch $(VENV)/.demo $@

# The demo needs less: no checkers, no test tools, no database drivers.
$(VENV)/.demo: requirements/demo.txt pyproject.toml
	$(call INSTALL,requirements/demo.txt)
	@touch $@

# $(1): a file of locked requirements.
define INSTALL
@[[ -n "$(PYTHON)" ]] || { echo "error: no Python 3.11 or newer was found" >&2; echo "hint: name one: make PYTHON=/path/to/python3" >&2; exit 2; }
@echo "Installing into $(VENV)" >&2
@$(PYTHON) -m venv $(VENV)
@PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/pip install --no-compile --progress-bar off --require-hashes -r $(1) \
	| awk '/^(Collecting|Installing)/ { printf "."; fflush() } END { print "" }' >&2
@PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/pip install -q --no-compile --no-deps --no-build-isolation -e .
endef

.PHONY: install
install: $(VENV)/.installed ## Install dekctl and its locked dependencies into .venv

LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url -q --custom-compile-command "make lock"

.PHONY: lock
lock: ## Update the locked dependencies in requirements/*.txt (needs uv)
	$(LOCK) pyproject.toml --extra dev --extra postgresql --extra mysql --extra fast --extra cluster --extra asyncio -o requirements/dev.txt
	$(LOCK) requirements/checkov.in -o requirements/checkov.txt
	$(LOCK) --no-deps requirements/postgresql.in -o requirements/postgresql.txt
	$(LOCK) pyproject.toml --extra demo --extra fast --constraint requirements/dev.txt -o requirements/demo.txt
	$(LOCK) pyproject.toml --extra postgresql --extra mysql --extra fast --constraint requirements/dev.txt -o requirements/image.txt
	$(LOCK) pyproject.toml --extra docs --constraint requirements/dev.txt -o requirements/docs.txt

# The same bytes from the same commit: hatchling takes the time of every file from SOURCE_DATE_EPOCH.
.PHONY: dist
dist: install ## Build sdist and wheel into dist/, with the migrations and the Terraform modules
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1580601600)} \
		$(VENV)/bin/python -m hatchling build -d dist >/dev/null 2>&1 || $(VENV)/bin/python -m hatchling build -d dist
	@cd dist && { sha256sum * 2>/dev/null || shasum -a 256 *; }

.PHONY: demo
demo: $(VENV)/.demo ## Guided demo: wrap a sample table, then rotate its key (moto and SQLite)
	@$(TOOL) -m demo

# Each process starts its own servers. More than the two cores of CI: many tests only wait. A file stays in one process, because
# its tests share what takes long to set up.
TEST_PROCESSES ?= 4

.PHONY: unit
unit: install ## Run the unit tests: no server, half a minute at most
	@$(VENV)/bin/python -m pytest -q -n 2 tests/unit $(ARGS)

.PHONY: test
test: install ## Run all tests that need neither a cloud account nor Docker
	@$(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-postgresql-newest
test-postgresql-newest: install ## Run the tests of rows and schema on PostgreSQL 17 and 18, from wheels
	@$(TOOL) -m sandbox.newest $(ARGS)

.PHONY: test-iam
test-iam: install ## Compare Terraform's policies, cell by cell, with an IAM engine of others (needs Node and npm)
	@DEKCTL_TEST_IAM=1 $(VENV)/bin/python -m pytest -q -rs tests/integration/test_iam_engines.py $(ARGS)

.PHONY: test-localstack
test-localstack: install ## Run the complete operator workflow on a real LocalStack and PostgreSQL
	@$(TOOL) -m demo.full localstack

.PHONY: test-local
test-local: install ## Run the complete operator workflow on moto, with the audit trail (needs Terraform)
	@$(TOOL) -m demo.full local

.PHONY: bench
bench: install ## Benchmark dekctl against an ORM loop and boto3; writes docs/performance.md
	@PYTHONPATH=tooling:tests $(VENV)/bin/python -m bench $(ARGS)

# Added to what `make install` installs, whose versions it shares.
$(VENV)/.docs: $(VENV)/.demo requirements/docs.txt
	$(call INSTALL,requirements/docs.txt)
	@touch $@

SITE := .dekctl/site
.PHONY: docs
docs: $(VENV)/.docs ## Build the documentation as a static site in .dekctl/site; a dead link fails
	@rm -rf $(SITE)
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -n -c docs -d .dekctl/doctrees . $(SITE)
	@! grep -rE '<(script|link|img|iframe)[^>]*="(https?:)?//' --include=*.html $(SITE) || { echo "error: the site loads something from elsewhere" >&2; exit 1; }
	@echo "open $(SITE)/index.html"

.PHONY: lint
lint: lint-python ## Run all static checks; those of Terraform only if it is installed
	@if command -v $(TERRAFORM) >/dev/null; then $(MAKE) tf-lint; else echo "skipped: tf-lint (terraform is not on PATH)"; fi

.PHONY: lint-python
lint-python: install ## Check format, lint, types and the layers of ARCHITECTURE.md
	@$(VENV)/bin/ruff format --check -q tooling tests migrations examples
	@$(VENV)/bin/ruff check -q tooling tests migrations examples
	@$(VENV)/bin/mypy
	@found=$$($(VENV)/bin/lint-imports --no-cache --no-logo) || { echo "$$found" >&2; exit 1; }

.PHONY: fmt
fmt: install ## Format the Python and Terraform files
	@$(VENV)/bin/ruff format -q tooling tests migrations examples
	@$(VENV)/bin/ruff check -q --fix tooling tests migrations examples
	@if command -v $(TERRAFORM) >/dev/null; then $(MAKE) tf-fmt; fi

## ---- Terraform ----------------------------------------------------------------------------------

TERRAFORM ?= terraform
TF_DIR := terraform/environments/$(ENV)
# Everything Terraform writes for an environment: its data folder, plans, outputs.json and, for the emulators, the state.
STATE_DIR ?= $(CURDIR)/.dekctl/$(ENV)
# A file of variables that override the environment's own, e.g. the generations of a KEK.
TF_VAR_FILE ?=

# Terraform warns at every command about a missing configuration file.
ifneq ($(TF_CLI_CONFIG_FILE),)
ifeq ($(wildcard $(TF_CLI_CONFIG_FILE)),)
unexport TF_CLI_CONFIG_FILE
endif
endif

# A folder with registry.terraform.io/hashicorp/aws/… in it serves instead of the registry. Terraform looks into
# ~/.terraform.d/plugins and the like by itself; /opt is where images for closed networks keep one.
TF_PLATFORM := $(shell uname -s | tr A-Z a-z)_$(shell uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')
TF_PLUGIN_DIR ?= $(firstword $(foreach found,$(wildcard /opt/*/registry.terraform.io/hashicorp/aws/*/$(TF_PLATFORM)),$(firstword $(subst /registry.terraform.io/, ,$(found)))))

EMULATORS := local localstack
ifneq ($(filter $(ENV),$(EMULATORS)),)
DEKCTL_ENDPOINT ?= $(if $(filter local,$(ENV)),http://127.0.0.1:45670,http://127.0.0.1:4566)
# Put before a command, it talks to the emulator and cannot reach a real account.
CLOUD_ENV := env -u AWS_PROFILE -u AWS_SESSION_TOKEN -u AWS_ROLE_ARN -u AWS_WEB_IDENTITY_TOKEN_FILE \
	AWS_ENDPOINT_URL=$(DEKCTL_ENDPOINT) AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 \
	AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
TF_BACKEND_CONFIG = path=$(STATE_DIR)/terraform.tfstate
else
CLOUD_ENV := env
TF_BACKEND_CONFIG ?= $(CURDIR)/$(TF_DIR)/backend.hcl
endif

TF = $(CLOUD_ENV) CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_DATA_DIR=$(STATE_DIR)/terraform $(TERRAFORM) -chdir=$(TF_DIR)
# Colours only for a terminal.
TF_COLOR := $(if $(MAKE_TERMOUT),,-no-color)
TF_VARS = $(TF_COLOR) $(if $(TF_VAR_FILE),-var-file=$(abspath $(TF_VAR_FILE)))

.PHONY: help
help: ## List the targets
	@printf 'make TARGET [ENV=%s]\n\n' "$$(echo $(ENVS) | tr ' ' '|')"
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

.PHONY: tf-found
tf-found:
	@command -v $(TERRAFORM) >/dev/null || { echo "error: terraform is not on PATH" >&2; echo "hint: install Terraform 1.11 or newer, or name it: make TERRAFORM=/path/to/terraform" >&2; exit 2; }

.PHONY: tf-init
tf-init: tf-found
	@mkdir -p $(STATE_DIR)
	@$(TF) init -input=false -no-color -reconfigure $(if $(TF_PLUGIN_DIR),-plugin-dir=$(TF_PLUGIN_DIR)) -backend-config=$(TF_BACKEND_CONFIG) > $(STATE_DIR)/init.log 2>&1 || { cat $(STATE_DIR)/init.log >&2; echo "hint: see terraform/README.md, \"A real environment\" and \"Provider versions\"" >&2; exit 1; }

.PHONY: plan
plan: tf-init ## Show what Terraform would change in ENV (apply makes a plan of its own)
	@$(TF) plan -input=false $(TF_VARS) -out=$(STATE_DIR)/plan.tfplan
	@$(TF) show -json $(STATE_DIR)/plan.tfplan > $(STATE_DIR)/plan.json

# One plan, in a file of its own: what the guard saw is what is confirmed and applied, whatever another `make plan` writes
# meanwhile. The guard needs no database for a plan that can do no harm.
# $(1): options of terraform plan; $(2): the question that a real environment asks.
ALLOW ?=
GUARD = $(DEKCTL) guard $(foreach finding,$(ALLOW),--allow '$(finding)')
CONFIRM = [[ "$(YES)" == 1 ]] || { read -r -p "$(1) $(ENV)? Type the environment's name: " answer && [[ "$$answer" == "$(ENV)" ]]; } || { echo "error: not confirmed; nothing was changed" >&2; exit 3; }
define PLAN_GUARD_APPLY
@own=$$(mktemp -d $(STATE_DIR)/apply.XXXXXX); trap 'rm -rf "$$own"' EXIT; \
$(TF) plan $(1) -input=false $(TF_VARS) -out="$$own/plan.tfplan"; \
$(TF) show -json "$$own/plan.tfplan" > "$$own/plan.json"; \
$(GUARD) --plan "$$own/plan.json"; \
$(if $(filter $(ENV),$(EMULATORS)),,$(call CONFIRM,$(2));) \
$(TF) apply -input=false $(TF_COLOR) "$$own/plan.tfplan"
endef

.PHONY: apply
apply: $(if $(filter local,$(ENV)),$(VENV)/.demo,install) tf-init ## Plan, check with dekctl guard, ask, apply (YES=1: do not ask; ALLOW=FINDING: accept it)
	$(call PLAN_GUARD_APPLY,,Apply this plan to)
	@$(TF) output -json > $(STATE_DIR)/outputs.json

.PHONY: destroy
ifeq ($(filter $(ENV),$(EMULATORS)),)
destroy: install tf-init ## Destroy ENV; in a real ENV, checks with dekctl guard and asks first
	$(call PLAN_GUARD_APPLY,-destroy,Destroy)
else
destroy: tf-init
	@$(TF) destroy $(TF_VARS) -input=false -auto-approve
endif
	@rm -f $(STATE_DIR)/outputs.json

.PHONY: output
output: tf-init ## Print the Terraform outputs of ENV as JSON
	@$(TF) output -json

# A colleague may have rolled the KEK since: a real environment's outputs are read again each time.
.PHONY: outputs
outputs: install
ifeq ($(filter $(ENV),$(EMULATORS)),)
outputs: tf-init
	@$(TF) output -json > $(STATE_DIR)/outputs.json
endif

## ---- Emulators and the dekctl commands ----------------------------------------------------------

KEEP = $(TOOL) -m sandbox.keep
KEEP_OPTIONS = $(ENV) --port $(lastword $(subst :, ,$(DEKCTL_ENDPOINT))) --directory $(STATE_DIR)/emulator

.PHONY: up
up: install ## Start the emulator (ENV=local or localstack); local gets a sample table of 1,000 rows
ifeq ($(filter $(ENV),$(EMULATORS)),)
	@echo "error: $(ENV) is a real environment, there is nothing to start" >&2; exit 2
endif
	@$(KEEP) up $(KEEP_OPTIONS)
ifeq ($(ENV),local)
	@$(TOOL) -m demo.sample $(STATE_DIR)/app.db
endif

.PHONY: down
down: install ## Stop the emulator of ENV and delete its data
ifeq ($(filter $(ENV),$(EMULATORS)),)
	@echo "error: $(ENV) is a real environment, there is nothing to stop" >&2; exit 2
endif
	@$(KEEP) down $(KEEP_OPTIONS)
	@rm -rf $(STATE_DIR)

.PHONY: migrate
migrate: outputs ## Run schema expand, wrap and verify; plaintext keys stay in place
	@$(DEKCTL) migrate $(ARGS)

.PHONY: dekctl
dekctl: outputs ## Run any other command: make dekctl ENV=staging ARGS='schema expand'
	@$(DEKCTL) $(ARGS)

.PHONY: retire
retire: outputs ## Check whether a KEK can be retired: make retire KEK=g1
	@$(DEKCTL) retire $(KEK) $(ARGS)

.PHONY: status
status: outputs ## Show the stage, the rows by state, and how many rows each KEK wraps
	@$(DEKCTL) status $(ARGS)

.PHONY: doctor
doctor: outputs ## Check configuration, database, KEKs and each role's permissions
	@$(DEKCTL) doctor $(ARGS)

.PHONY: verify
verify: outputs ## Decrypt every wrapped key and compare it with its plaintext
	@$(DEKCTL) verify $(ARGS)

.PHONY: scrub
scrub: outputs ## Remove plaintext keys, each after verification; asks first (ARGS=--yes: do not ask)
	@$(DEKCTL) scrub $(ARGS)

.PHONY: restore
restore: outputs ## Undo scrub: decrypt each key into the plaintext column; asks first
	@$(DEKCTL) restore $(ARGS)

.PHONY: rollback
rollback: outputs ## Undo everything: plaintext keys and legacy schema (ARGS=--dry-run: try it)
	@$(DEKCTL) rollback $(ARGS)

.PHONY: contract
contract: outputs ## Drop the plaintext column; asks first
	@$(DEKCTL) schema contract $(ARGS)

.PHONY: rewrap
rewrap: outputs ## Move every wrapped key to the active KEK
	@$(DEKCTL) rewrap $(ARGS)

.PHONY: audit
audit: outputs ## Compare CloudTrail's KMS events with the run ledger and the roles
	@$(DEKCTL) audit $(ARGS)

REPORT ?= $(STATE_DIR)/report.html

.PHONY: report
report: outputs ## Write one HTML page with state and history: make report REPORT=FILE
	@$(DEKCTL) report --output $(REPORT)

## ---- Terraform's formatter and linter -----------------------------------------------------------

# Checkov has a virtual environment of its own, because it pins dozens of packages.
CHECKOV_ENV := $(CURDIR)/.dekctl/checkov

.PHONY: tf-fmt
tf-fmt: tf-found install ## Format the Terraform files and write their README tables
	@$(TERRAFORM) fmt -recursive terraform
	@$(TOOL) -m tfkit.docs

.PHONY: tf-lint
tf-lint: tf-found install ## Check format and README tables of Terraform; plan the roots, and run Checkov on the plans
	@$(TERRAFORM) fmt -check -diff -recursive terraform
	@$(TOOL) -m tfkit.docs --check
	@$(MAKE) checkov
	@rm -rf .dekctl/plans
	@$(TOOL) -m tfkit.plans .dekctl/plans
	@$(CHECKOV_ENV)/bin/checkov --config-file .checkov.yaml $$(printf -- '-f %s ' .dekctl/plans/*.json)

# The stamp is a copy of the lock file, so a checkout that only touches it does not install again.
.PHONY: checkov
checkov:
	@cmp -s requirements/checkov.txt $(CHECKOV_ENV)/.installed || { \
		echo "Installing Checkov into $(CHECKOV_ENV)" >&2; \
		$(PYTHON) -m venv --clear $(CHECKOV_ENV); \
		PIP_DISABLE_PIP_VERSION_CHECK=1 $(CHECKOV_ENV)/bin/pip install -q --no-compile --require-hashes -r requirements/checkov.txt; \
		cp requirements/checkov.txt $(CHECKOV_ENV)/.installed; }
