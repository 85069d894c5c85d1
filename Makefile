# Two commands do everything, set-up included:
#   make serve   [PORT=8000]   creates .venv, migrates data/maze.db, starts API and worker, prints the URL
#   make test                  the same set-up with the test tools, then lint, types, contracts, all tests
#   make learning              what the shipped experiments learn, beside RL-Zoo3: hours, may be interrupted and goes on
#   make docs                  the documentation as a site that needs no network, in site/
#   make mutants [FILES=…]     changes one line at a time in trainers, objectives and wrappers: which no test notices
#   make faults [FIGURES=…]    kills, locks, fills and fuzzes for hours, SHARE=0.2 for less, and writes what was reached
#   make soak   [MINUTES=60]   short runs while something is killed every few seconds
#   make test-postgres         the suites of store, worker and service on PostgreSQL
#   make first-minutes         from a clone to a learnt pole and its video on the page, with a stopwatch
# PyTorch's CPU build needs far less disk: make serve TORCH_INDEX_URL=…, see the README

PYTHON ?= python3
PORT ?= 8000
TORCH_INDEX_URL ?=
# one more than cores: tests of processes wait for them a third of their time
JOBS ?= 3
# Shares of the tests, each a process that imports and collects its own alone; what is in no folder of these is in tests'
SHARES := acceptance maze_core docs service service/api maze_core/api service/worker web
MINUTES ?= 60

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_INDEX = $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL),)

.PHONY: help setup setup-test serve test lint types page-types contracts unit test-slow mutants first-minutes faults soak test-postgres test-envs bench learning docs collection format clean

help:
	@sed -n '2,11p' Makefile | cut -c3-

setup: $(VENV)/.installed $(VENV)/.page

setup-test: $(VENV)/.installed-test $(VENV)/.page-test

$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@echo "1/4  a virtual environment in $(VENV), and PyTorch: the largest download, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_INDEX) $(if $(TORCH_INDEX_URL),--no-deps,) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "2/4  the project and what else it needs: about a minute"
	$(PIP) --editable '.[video]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "2/4  the project, what else it needs, and the tools of its tests: some minutes"
	$(PIP) --editable '.[test,gym,postgres,optuna,parquet,video,box2d,pettingzoo,minari,onnx,otel]'
	@touch $@ $(VENV)/.installed

# The page's packages; without npm's registry the service runs all the same, and / says what is missing
$(VENV)/.page: $(VENV)/.installed service/web/package-lock.json tools/page.py
	@echo "3/4  the page at /: three small packages from npm"
	@$(BIN)/python -m tools.page && touch $@ || echo "     the page is left out this time; the API is whole"

$(VENV)/.page-test: $(VENV)/.installed-test service/web/package-lock.json tools/page.py
	@echo "3/4  the page at /, its type checker and the driver of its browser tests"
	$(BIN)/python -m tools.page --dev
	@touch $@ $(VENV)/.page

$(VENV)/.installed-docs: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	@touch $@

serve: setup
	@echo "4/4  the service: the database, then API and worker; ready in seconds"
	$(BIN)/maze serve --no-auth --host 127.0.0.1 --port $(PORT) --database-url sqlite:///data/maze.db

# the checks, of one process each, beside the tests; what fails stops none of the others
test: setup-test
	$(MAKE) --jobs $(JOBS) --keep-going --output-sync unit lint types page-types contracts

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

page-types:
	$(BIN)/python -m tools.page --types

contracts:
	$(BIN)/lint-imports

# hundreds of processes of the tests import the project, whose files are compiled once even where Python is told not to
unit/% test-slow: export PYTHONDONTWRITEBYTECODE =

unit: $(SHARES:%=unit/%) unit/.

# all in its folder but the folders of other shares
unit/%:
	$(BIN)/python -m pytest -q -m 'not slow and not faults' tests/$* \
		$(patsubst %,--ignore=tests/%,$(if $(filter .,$*),$(SHARES),$(filter $*/%,$(SHARES))))

test-slow: setup-test $(VENV)/.installed-docs $(VENV)/.installed-ray
	$(BIN)/python -m pytest -m '(slow or hypothesis) and not faults' --hypothesis-profile thorough

$(VENV)/.installed-ray: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) --editable '.[ray]'
	@touch $@

docs: $(VENV)/.installed $(VENV)/.installed-docs
	$(BIN)/python -m tools.site

collection: $(VENV)/.installed
	$(BIN)/python -m tools.collection

mutants: setup-test
	$(BIN)/python -m tests.mutants $(FILES)

# Schemathesis in a virtual environment of its own
.venv-schemathesis/.installed:
	$(PYTHON) -m venv .venv-schemathesis
	.venv-schemathesis/bin/python -m pip install --quiet --disable-pip-version-check schemathesis==4.32.5
	@touch $@

faults: setup-test .venv-schemathesis/.installed
	$(BIN)/python -m tests.faults $(FIGURES)
	$(BIN)/python -m tests.docs.tables

soak: setup-test
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)
	$(BIN)/python -m tests.docs.tables

test-postgres: setup-test
	$(BIN)/python -m tests.postgres $(TESTS)

first-minutes: setup-test
	$(BIN)/python -m tests.web.first_minutes

# Environment packages of other people, in a virtual environment of their own
test-envs:
	$(PYTHON) -m venv .venv-envs
	.venv-envs/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) $(if $(TORCH_INDEX_URL),--no-deps,) "$$(grep '^torch==' constraints.txt)"
	.venv-envs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gym,box2d,mujoco,atari,minigrid]' --requirement tools/environments.txt
	.venv-envs/bin/python -m tools.environments

bench: setup-test
	$(PIP) --editable '.[bench]'
	for name in train_throughput "train_throughput --growth" time_to_return serve_actions "serve_actions --growth" serve_sessions serve_bodies \
		first_metrics slow_steps polling worker_overhead side_by_side database plots; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done

# RL-Zoo3 in a virtual environment of its own
.venv-zoo/.installed: tools/rl_zoo3.txt
	$(PYTHON) -m venv .venv-zoo
	.venv-zoo/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) $(if $(TORCH_INDEX_URL),--no-deps,) "$$(grep '^torch==' constraints.txt)"
	.venv-zoo/bin/python -m pip install --quiet --disable-pip-version-check --requirement tools/rl_zoo3.txt
	@touch $@

learning: setup-test .venv-zoo/.installed
	$(PIP) --editable '.[mujoco]'
	$(BIN)/python -m benchmarks.learning --zoo .venv-zoo/bin/python $(EXPERIMENTS)
	$(BIN)/python -m tests.docs.tables

format: setup-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-schemathesis build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
