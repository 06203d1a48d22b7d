# Every command of the project. `make` alone lists them; each sets up what it needs in .venv, once.
# Needs: Linux, python3 >= 3.11 with venv (Debian: python3-venv), make, and an index of Python packages.

PYTHON ?= python3
BIN    := .venv/bin
ARGS   ?=

# Wheels come from the usual index or from what PIP_INDEX_URL, PIP_NO_INDEX and PIP_FIND_LINKS say.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

# The commit that last touched what benchmarks measure: results of a commit that only adds results say nothing.
MEASURED := sevpcie_core bench pyproject.toml
# The name that results are kept under. Machines that are thrown away share one, or each starts a line of its own.
MACHINE ?= $(shell uname -n)
# One process per CPU, files whole, so that what the tests of a file share is made once.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile
# Kernels on one thread each, in asv's environments too.
CAPS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help compare test lint format nojit backends readme bench bench-check peers setup-run setup-peers setup-test venv

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

compare: setup-run ## what link encryption costs, on the shipped scenarios (ARGS=--wide, ARGS="nvme --json", ...)
	@$(BIN)/python -m sevpcie_core.cli compare $(ARGS)

test: setup-test ## run the tests (ARGS="-k gate", ...)
	@$(PYTEST) $(ARGS)

lint: setup-test ## style, format, types, and the floors between modules
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: setup-test ## put the sources into their format
	$(BIN)/python -m ruff check --fix-only --quiet .
	$(BIN)/python -m ruff format .

nojit: setup-test ## the marked subset of the tests with the kernels interpreted
	NUMBA_DISABLE_JIT=1 $(PYTEST) -m nojit $(ARGS)

backends: setup-test ## the tests of the protected stream once more, on every AES backend but the fastest
	@for name in $$($(BIN)/python -c 'from sevpcie_core.crypto import backends; print(*backends.available()[:-1])'); do \
	  echo "SEVPCIE_AES_BACKEND=$$name"; \
	  SEVPCIE_AES_BACKEND=$$name $(PYTEST) -m "not own_process" tests/test_ide_*.py tests/test_arms_agree.py $(ARGS) || exit 1; \
	done

readme: setup-test ## rewrite what the README shows: the table of the main job, and the picture
	@cd tests && ../$(BIN)/python -m tools.write_readme

bench: setup-test ## measure the last commit with asv; results land in results/asv (ARGS="-b track")
	@$(BIN)/asv machine --yes --machine $(MACHINE) >/dev/null
	git rev-list -1 HEAD -- $(MEASURED) | $(CAPS) $(BIN)/asv run HASHFILE:- --machine $(MACHINE) \
	  -E virtualenv:$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') $(ARGS)

bench-check: setup-test ## import the benchmarks without running them
	@$(BIN)/asv machine --yes --machine $(MACHINE) >/dev/null
	$(BIN)/asv check --python=same

peers: setup-peers ## time our AES-GCM and simulator beside other people's (libipsec-mb-dev, gcc help; ARGS="--quick --json")
	@$(BIN)/python bench/peers/peers.py $(ARGS)

# --- Set-up -------------------------------------------------------------------------------------------

# $(call install,stamp,extras,words): install the package unless the stamp shows that nothing has changed since.
define install
	@want="$$(sha256sum < pyproject.toml) $(2)"; \
	if [ "$$(cat .venv/$(1) 2>/dev/null)" != "$$want" ]; then \
	  echo "sevpcie: installing $(3) into .venv (once; about a minute) ..." >&2; \
	  $(PIP) install --editable '.$(2)' || \
	    { echo "sevpcie: pip failed (above); it needs an index of Python packages, see PIP_INDEX_URL" >&2; exit 1; }; \
	  printf '%s\n' "$$want" > .venv/$(1); \
	fi
endef

setup-run: venv
	$(call install,stamp-run,,what a comparison needs)

# Other people's simulators: those that the index does not have are missing from the table, with their reason.
setup-peers: setup-run
	@want="$$(sha256sum < pyproject.toml)"; \
	if [ "$$(cat .venv/stamp-peers 2>/dev/null)" != "$$want" ]; then \
	  echo "sevpcie: installing other people's simulators into .venv (once) ..." >&2; \
	  if $(PIP) install --editable '.[peers]'; then printf '%s\n' "$$want" > .venv/stamp-peers; \
	  else echo "sevpcie: pip failed (above); going on without them" >&2; fi; \
	fi

setup-test: venv
	$(call install,stamp-test,[test$(,)notebooks$(,)bench],what the tests need)

, := ,

# Made anew where it does not work: copied from another folder, or its Python is gone.
venv:
	@if [ "$$(cat .venv/stamp-place 2>/dev/null)" != "$(CURDIR)" ] || ! $(BIN)/python -c '' 2>/dev/null; then \
	  command -v $(PYTHON) >/dev/null || { echo "sevpcie: $(PYTHON) not found; install Python 3.11 or later" >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "sevpcie: $$($(PYTHON) --version) is too old; Python 3.11 or later is needed (make PYTHON=...)" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "sevpcie: $(PYTHON) has no venv; install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }; \
	  echo "sevpcie: making .venv ..." >&2; \
	  $(PYTHON) -m venv --clear .venv && printf '%s\n' "$(CURDIR)" > .venv/stamp-place; \
	fi
