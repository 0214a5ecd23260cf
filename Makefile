# SPDX-License-Identifier: GPL-3.0-or-later
# Everything is run through this file; `make` lists the targets.

EMACS ?= emacs
PYTHON ?= python3
VENV := .venv
LISP := $(wildcard lisp/*.el)
COMPILED := lisp/.compiled-$(shell env -u EMACSLOADPATH "$(EMACS)" -Q --batch --eval '(princ emacs-version)' 2>/dev/null)

# What would lead the programs that run here to other files, or other places, than theirs.
unexport CDPATH BASH_ENV ENV GREP_OPTIONS EMACSLOADPATH EMACSDATA EMACSDOC EMACSPATH
unexport $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_PREFIX GIT_NAMESPACE
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_NO_DEPS PIP_DRY_RUN PIP_REQUIREMENT
export PIP_USER := 0

export EMACS
export ONLY
# Looked up by each recipe: the environment may have been made by the one before.
export DUALSTACK_PYTHON = $(CURDIR)/$(shell . tests/support/python.sh; venv_python $(VENV))
VENV_PYTHON := "$$DUALSTACK_PYTHON"
MAKE_VENV = python=$$(sh tests/support/need.sh "$(PYTHON)") && \
	   "$$python" tests/support/make_venv.py "$(PYTHON)" $(VENV)

# One thing at a time: the demo measures, and Emacs may have to be installed before it compiles.
.NOTPARALLEL:

.PHONY: help demo test rooms docs fault lint compile bench bench-connect bench-epc bench-load matrix fresh package test-windows bench-windows clean setup

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "EMACS=... and PYTHON=... choose an Emacs and a Python; ONLY=REGEXP chooses tests."
	@echo "FRESH='--release bookworm|trixie|sid --user root|ordinary' chooses new machines."

demo: setup compile ## See the freeze and its cure, measured, in your own Emacs
	@"$$EMACS" -Q --batch -L lisp -l tests/demo.el -f dualstack-demo

test: setup compile ## Run the linters and all tests, ERT's and pytest's
	@$(VENV_PYTHON) tests/run.py $${ONLY:+--only "$$ONLY"}

lint: setup ## Check the style of the Lisp and the Python
	@sh tests/lint.sh

rooms: setup ## Show which room of the Python package imports which
	@$(VENV_PYTHON) tests/support/rooms.py

docs: setup compile ## Write the API reference in README.org from the docstrings
	@"$$EMACS" -Q --batch -L lisp -l tests/support/docs.el -f dualstack-docs

fault: setup compile ## Run the tests of faults and load, ten times as long
	@DUALSTACK_FAULT_TIMES=10 $(VENV_PYTHON) tests/run.py --ert-only --only dualstack-fault

bench: setup compile ## Compare with other clients and servers, side by side
	@$(VENV_PYTHON) tests/bench/compare.py

bench-connect: setup compile ## Measure connecting against its bounds
	@"$$EMACS" -Q --batch -L lisp -L tests/lisp -l tests/bench/bench-connect.el \
	   -f dualstack-bench-connect; connect=$$?; \
	 $(VENV_PYTHON) tests/bench/bench_quit.py && exit $$connect

bench-epc: setup compile ## Measure the EPC server and client against their bounds
	@$(VENV_PYTHON) tests/bench/bench_epc.py; python=$$?; \
	 "$$EMACS" -Q --batch -L lisp -L tests/lisp -l tests/bench/bench-epc.el \
	   -f dualstack-bench-epc && exit $$python

bench-load: setup compile ## Measure how Emacs does with 10,000 large calls at once
	@"$$EMACS" -Q --batch -L lisp -L tests/lisp -l tests/bench/bench-epc.el \
	   -f dualstack-bench-epc-load; load=$$?; \
	 $(VENV_PYTHON) tests/bench/bench_quit.py --load && exit $$load

matrix: setup ## Run the tests on Emacs 27.1 to 30.2 and Python 3.10 to 3.14 (root, debootstrap)
	@tests/matrix.sh

fresh: ## Do what the README says on new machines with nothing but git and make (root, debootstrap)
	@tests/fresh.sh $(FRESH)

package: ## Build dualstack-VERSION.tar, for package-install-file
	@sh tests/support/need.sh
	@.ci/package

test-windows: setup ## Run all tests on Windows: WINDOWS_TOOLS=DIRECTORY, or EMACS_W32=... PYTHON_W32=...
	@$(VENV_PYTHON) tests/windows/run_windows.py $(if $(ONLY),--only '$(ONLY)')

bench-windows: setup ## Measure connecting on Windows, as test-windows tests there
	@$(VENV_PYTHON) tests/windows/run_windows.py --bench

compile: $(COMPILED)

# One Emacs compiles all files, as they depend on each other; another version compiles them anew.
$(COMPILED): $(LISP) | setup
	@rm -f lisp/*.elc lisp/.compiled-*
	@"$$EMACS" -Q --batch -L lisp --eval '(setq byte-compile-error-on-warn t)' \
	  -f batch-byte-compile $(LISP)
	@touch $@

# The environment is made again if its Python has gone, the clone has moved, or another Python is named.
setup: $(VENV)/.installed
	@sh tests/support/need.sh
	@$(VENV_PYTHON) -c 'import dualstack_epc' 2>/dev/null $(if $(filter file,$(origin PYTHON)),,\
	   && [ "$$(cat $<)" = "$(PYTHON)" ]) || { $(MAKE_VENV); }

$(VENV)/.installed: python/pyproject.toml
	@$(MAKE_VENV)

clean: ## Remove what was made, but for the downloads in .cache
	rm -rf $(VENV) lisp/*.elc lisp/.compiled-* python/build python/src/*.egg-info \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis
