# Everything a developer types; `make` alone lists it.
#
# Needs make and Python 3.11 or later, nothing else. The first target that needs more puts it into .venv.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
UV := $(VENV)/.uv-$(UV_VERSION)
READY := $(VENV)/.ready

# uv works with the interpreter of .venv: it neither downloads one nor looks for another.
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(BIN)/python
export UV_PROJECT_ENVIRONMENT := $(VENV)
# What happens to be active in the caller's shell is not ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

# The first interpreter that is new enough and can make a virtual environment with pip in it.
define FIND_PYTHON
for python in $${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do \
  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    command -v "$$python"; exit 0; \
  fi; \
done; \
echo "no Python 3.11 or later that can make a virtual environment; install one (Debian: python3-venv) or say" \
  "where it is: make PYTHON=/path/to/python" >&2; \
exit 1
endef

heading = @printf '\n== %s\n' '$(1)'

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Set-up: runs again only when pyproject.toml, uv.lock or the version of uv changes ---

.PHONY: setup
setup: $(READY) ## Put everything the other targets need into .venv (they do it by themselves)

# With --clear, for .venv may be there with an interpreter that has gone.
$(BIN)/python:
	@python="$$($(FIND_PYTHON))"; echo "setting up $(VENV) with $$python"; "$$python" -m venv --clear $(VENV)

$(UV): | $(BIN)/python
	@echo "installing uv $(UV_VERSION) into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

# --inexact, or uv would remove itself and pip, which the lock file does not name.
$(READY): pyproject.toml uv.lock $(UV)
	@echo "installing what uv.lock names into $(VENV)"
	@$(BIN)/uv sync --quiet --frozen --inexact --all-extras --compile-bytecode
	@touch $@

# --- Use ---

.PHONY: demo
demo: $(READY) ## See it work: gateway, two workers, one killed; KEEP=1 leaves it running
	@$(BIN)/toolspan demo $(if $(filter-out 0,$(KEEP)),--keep)

# --- Tests ---

# Most tests wait for processes: more of them at once than two cores have.
SIDE_BY_SIDE := -n 6 --dist worksteal

.PHONY: test
test: $(READY) ## Run all tests on every server found here; ARGS='-k drain -x' goes to pytest
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(ARGS)

.PHONY: soak
soak: $(READY) ## Let everything go wrong while calls run; ARGS='--calls 1000000 --seed 7 --keep'
	@$(BIN)/python -m tests.soak.run $(ARGS)

.PHONY: points
points: $(READY) ## Have a worker, a gateway, a replay die at every point between two awaits; takes half an hour
	@$(BIN)/python -m tests.points.run $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## Give the codec a million broken entries (ten minutes); ARGS='--entries 1000000 --seed 1'
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

.PHONY: mutants
mutants: $(READY) ## Change Lua and codec in one place at a time, list what no test notices (half an hour); ARGS='--near calls.py'
	@$(BIN)/python -m tools.mutants.run $(ARGS)

.PHONY: check
check: check-format check-lint check-types check-imports check-lua check-docs check-dashboards check-site ## Check all that Python alone can check
	$(call heading,all checks passed)

.PHONY: check-format check-lint check-types check-imports check-lua check-docs check-dashboards check-site
check-format: $(READY)
	$(call heading,ruff format)
	@$(BIN)/ruff format --check .

check-lint: $(READY)
	$(call heading,ruff check)
	@$(BIN)/ruff check .

check-types: $(READY)
	$(call heading,mypy --strict)
	@$(BIN)/mypy --strict

check-imports: $(READY)
	$(call heading,lint-imports)
	@$(BIN)/lint-imports --no-logo

check-lua: $(READY)
	$(call heading,Lua scripts)
	@$(BIN)/python tools/check_lua.py

check-docs: $(READY)
	$(call heading,generated pages)
	@$(BIN)/python -m tools.write_docs --check

check-dashboards: $(READY)
	$(call heading,generated dashboards and rules)
	@$(BIN)/python -m dashboards.source.build --check

check-site: site
	@$(BIN)/python -m tools.check_site site

# What needs more than Python; CI has it. Two stacks, that mostly wait, and beside them what needs none.
STACKS_SIDE_BY_SIDE := -n 3
LUACHECK := luacheck --std lua51 --read-globals redis KEYS ARGV cjson cmsgpack unpack --no-color

.PHONY: stack-test
stack-test: $(READY) ## Check what needs more than Python: luacheck, and the whole stack for real (Go builds it, once)
	$(call heading,luacheck)
	@command -v luacheck >/dev/null || { \
	  echo "luacheck is missing; install it (Debian: lua-check) or leave stack-test to CI" >&2; exit 1; }
	@scripts="$$(mktemp -d)"; trap 'rm -rf "$$scripts"' EXIT; \
	  $(BIN)/python tools/check_lua.py --compose-into "$$scripts"; cd "$$scripts"; $(LUACHECK) .
	$(call heading,the stack)
	@programs="$$($(BIN)/python tools/build_stack.py)"; \
	  TEST_STACK="$$programs" $(BIN)/pytest $(STACKS_SIDE_BY_SIDE) tests/stack $(ARGS)

.PHONY: drill
drill: $(READY) ## Raise each alert with a real fault, and write docs/fire-drill.md (half an hour); ARGS='--only ToolspanSaturated'
	@programs="$$($(BIN)/python tools/build_stack.py)"; TEST_STACK="$$programs" $(BIN)/python -m tests.stack.drill $(ARGS)

.PHONY: pictures
pictures: $(READY) ## Draw the dashboards for docs/images: the stack, first well and then with faults; needs npm and Chromium
	@programs="$$($(BIN)/python tools/build_stack.py)"; told="$$(mktemp -d)"; trap 'rm -rf "$$told"' EXIT; \
	  TEST_STACK="$$programs" $(BIN)/python -m tests.stack.pictures "$$told"; \
	  $(BIN)/python -m tools.draw_pictures "$$told"

.PHONY: up
up: ## Start the local stack with docker compose; http://localhost:3000
	@docker compose up --build --detach

# --- Timings: ratios of runs side by side, never part of the tests ---

.PHONY: bench
bench: $(READY) ## Measure everything we promise, beside the bare loop and others (15 minutes); ARGS='--only latency --quick'
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: flames
flames: $(READY) ## Draw where the time of a worker goes, into docs/images/flames/
	@$(BIN)/python -m benchmarks.flames $(ARGS)

# --- Upkeep ---

.PHONY: docs
docs: $(READY) ## Write the pages of docs/ that are made from code
	@$(BIN)/python -m tools.write_docs

# Strict: a page without a place in the nav, a link or an anchor that leads nowhere, fails. The variable hides advertising.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: site
site: $(READY) ## Build the pages of docs/ as a site, into site/; SERVE=1 shows it at http://localhost:8000
	$(call heading,site)
	@$(if $(filter-out 0,$(SERVE)),$(MKDOCS) serve --strict --dev-addr 127.0.0.1:8000,$(MKDOCS) build --strict --quiet)

.PHONY: dashboards
dashboards: $(READY) ## Write dashboards and alert rules; ARGS='--grafana-url URL --docs-url URL' for links of your own
	@$(BIN)/python -m dashboards.source.build $(ARGS)

.PHONY: format
format: $(READY) ## Format and fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

.PHONY: clean
clean: ## Remove .venv and everything built or cached
	@rm -rf $(VENV) dist build site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
