# Two commands on a fresh machine: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SKIPDIT := $(BIN)/skipdit
TABLES := table1 table2 table8

.PHONY: setup demo test test-slow test-all check bench tables $(TABLES) plan-flops train clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup  ## generate, score and profile Skip-Cache n = 2..6 against the uncached model
	$(SKIPDIT) cache-sweep

test: setup  ## the default tests
	$(BIN)/python -m pytest

test-slow: setup  ## only the tests marked slow
	$(BIN)/python -m pytest -m slow --override-ini addopts="-q --strict-markers --import-mode=importlib"

test-all: test test-slow

check: setup  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup  ## speedups against the ideal, on an idle machine
	$(SKIPDIT) profile --model moving-digits-skip --n 2..6 --batch-size 32 --repeats 7

$(TABLES): setup  ## one table of the paper
	$(SKIPDIT) cache-sweep --recipe $@

tables: $(TABLES)

train: setup  ## train the embedded models again: about two hours on two cores
	cd skipdit_cli/embedded && $(abspath $(BIN))/python -m skipdit_cli.embedded.make

clean:
	rm -rf $(VENV) results/samples results/scores results/sweeps
