# Everything starts here. `make run` and `make test` need Python 3.11 to 3.13, git and make; they set up .venv
# themselves, and again when requirements.lock or pyproject.toml change.

.DEFAULT_GOAL := help
.PHONY: run test test-faults mutations check bench docs up down lock clean help
BIN := .venv/bin

run: .venv/installed ## run the example plan on a copy: seven agent types build, test and release a package
	@folder=$$(mktemp -d "$${TMPDIR:-/tmp}/first-light.XXXXXX") && cp examples/first-light.md "$$folder/" && \
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/orchestrator run "$$folder/first-light.md" --fresh

test: .venv/installed ## every check, then every test: unit, property, simulation, contract, integration, acceptance, faults
	@$(BIN)/python tests/run.py

test-faults: .venv/installed ## the fault tests in full: the hundreds of kills and the long outages that `make test` bounds
	@ORCHESTRATOR_FAULTS=full $(BIN)/python tests/run.py faults

mutations: .venv/installed ## break the core, the runtime and the store on purpose, and see that the tests notice
	@$(BIN)/python tests/mutations.py

check: .venv/installed ## the checks alone: style, format, types, import contracts
	@$(BIN)/python tests/run.py check

bench: .venv/installed ## measure this machine: each subject of benchmarks/ against its bars
	@$(BIN)/python -m benchmarks

docs: .venv/installed ## write the pages that are generated from the code: states, findings and errors
	@$(BIN)/python docs/state_machine.py
	@$(BIN)/python docs/findings.py
	@$(BIN)/python -m docs.errors

up: .venv/installed ## start the orchestrator in the background: database, Ray, HTTP front end
	@$(BIN)/orchestrator up

down: .venv/installed ## stop it
	@$(BIN)/orchestrator down

lock: ## resolve requirements.lock again from pyproject.toml (needs uv)
	@uv pip compile --universal --generate-hashes --python-version 3.11 --group dev --all-extras pyproject.toml \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet -o requirements.lock

clean: ## remove .venv and everything else that these commands made here
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
	  printf '  make %-11s %s\n' "$$name" "$$text"; done

.venv/installed: requirements.lock pyproject.toml .ci/install
	@.ci/install
