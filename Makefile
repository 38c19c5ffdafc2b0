# The two commands: `make workshop` plays the course headless, `make test` runs the tests. Both set up what they need.
# 1.30.3 or 1.2.2. None: `make workshop` plays today's, `make lab` goes on with what the course runs on.
RELEASE ?=
PYTHON  ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
             command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
VENV    := .venv
BIN     := $(VENV)/bin
# Through Python: the first line of a script, which names one, takes no blank in the name.
LABKIT  := $(BIN)/python -m labkit
OUT     ?= build/workshop
# What shares a sandbox shares a worker, and what takes longest begins first: tests/suite.py.
PYTEST  := $(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder

CHOICE  := $(if $(RELEASE),--release $(RELEASE))
RELEASES := 1.2.2 1.30.3
# Before a minute of installing, not after it.
ifneq ($(filter workshop lab fresh,$(MAKECMDGOALS)),)
ifneq ($(filter-out $(RELEASES),$(RELEASE)),)
$(error this course does not teach Istio "$(RELEASE)": choose $(subst $() , or ,$(RELEASES)))
endif
endif

.PHONY: help workshop lab fresh test test-again test-quick test-thorough coverage check bench dist pictures looks person setup clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

# Jupyter reads copies of what is for it.
$(VENV)/.made: pyproject.toml constraints.txt $(shell find labkit/ui/jupyter -type f)
	@test -n "$(PYTHON)" || { echo "labkit needs Python 3.11 or later: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m tools.environment $(VENV) sandbox
	@touch $@

$(VENV)/.made-dev: $(VENV)/.made
	@"$(PYTHON)" -m tools.environment $(VENV) dev
	@touch $@

setup: $(VENV)/.made ## what is needed to use the workshop
	$(LABKIT) setup

workshop: setup ## play every notebook headless (RELEASE=1.30.3, or 1.2.2), results in build/workshop
	$(LABKIT) run $(CHOICE) --out $(OUT)

lab: setup ## the course in JupyterLab, on a copy of your own in workshop/; RELEASE=1.2.2 or 1.30.3 is kept
	$(LABKIT) lab $(CHOICE)

fresh: setup ## the same on a new copy; the one before is kept beside it
	$(LABKIT) lab --fresh $(CHOICE)

# Many a container says that Python is to keep nothing it has compiled: then each worker would rewrite the assertions of
# 500 files, and each sandbox and each pod compile our modules anew.
test test-again test-quick test-thorough coverage: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.made-dev ## the test suite, side by side (LABKIT_TEST_WORKERS=3)
	$(LABKIT) setup --tests
	$(PYTEST) -m 'not thorough and not again' $(TESTS)

test-again: $(VENV)/.made-dev ## the rest of it: the whole course, each exercise, Istio 1.2.2, and lessons a second time
	$(LABKIT) setup --tests
	$(PYTEST) -m 'again and not thorough' $(TESTS)

test-quick: $(VENV)/.made-dev ## what needs no pods, Envoys, kernels or browsers: two to three minutes
	LABKIT_MOST_CPU=5 $(PYTEST) -m 'not long and not thorough' --timeout 300 $(TESTS)

test-thorough: $(VENV)/.made-dev ## endurance, fuzz and faults: minutes each, figures at the end
	$(LABKIT) setup --tests
	LABKIT_LONG=1 $(BIN)/python -m pytest -m 'thorough or endurance or hypothesis' --timeout 3600 $(TESTS)

coverage: $(VENV)/.made-dev ## the test suite again, and which lines and branches of each package no test has run
	$(LABKIT) setup --tests
	mkdir -p build/coverage && rm -f build/coverage/data*
	$(PYTEST) -m 'not thorough' --cov --cov-report= $(TESTS)
	$(BIN)/python -m tools.coverage

check: $(VENV)/.made-dev ## lint, types, layers, notebooks, translations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir $(VENV)/.import-linter
	$(BIN)/python tools/check_notebooks.py
	$(BIN)/python -m tools.glossary --check
	$(BIN)/python -m tools.translations
	$(BIN)/python tools/check_files.py

bench: $(VENV)/.made-dev ## the figures of docs/benchmarks.md, each beside its floor
	$(LABKIT) setup
	$(BIN)/python -m tools.bench

dist: $(VENV)/.made-dev ## wheel and sdist, in build/dist
	$(BIN)/python -m build --no-isolation --outdir build/dist

pictures: $(VENV)/.made-dev ## the README's pictures anew, from the real pages
	$(LABKIT) setup --tests
	LABKIT_PICTURES="$(CURDIR)/build/pictures" $(BIN)/python -m pytest tests/browser/test_pictures.py -k 1.30.3
	cp build/pictures/1.30.3/*.png docs/images/

looks: $(VENV)/.made-dev ## each lesson run in JupyterLab: pictures in build/looks (LABKIT_LESSONS="01-install-istio 02-bookinfo")
	$(LABKIT) setup --tests
	$(BIN)/python -m pytest -m thorough --timeout 7200 tests/thorough/test_lessons_look.py $(if $(RELEASE),-k $(RELEASE))

person: $(VENV)/.made-dev ## all lessons as people play them: wrong answers, interrupts, restarts (LABKIT_SEED=1)
	$(LABKIT) setup --tests
	$(BIN)/python -m pytest -m thorough --timeout 7200 tests/thorough/test_person.py $(if $(RELEASE),-k $(RELEASE))

clean: ## stop and remove all: sandboxes, results, the virtual environment
	@if [ -x $(BIN)/labkit ]; then $(LABKIT) down --all --delete; fi
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find labkit meshbox grafana_figures tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
