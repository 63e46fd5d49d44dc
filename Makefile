# Two commands on a fresh machine: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SKIPDIT := $(BIN)/skipdit
TABLES := $(patsubst recipes/%.yaml,%,$(wildcard recipes/table*.yaml))
EMBEDDED := skipdit_cli/embedded

.PHONY: help setup demo test check bench tables train clean

help:  ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(VENV)/.done  ## install into .venv, with the locked versions

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup  ## generate, score and time Skip-Cache n = 2..6 against the uncached model
	$(SKIPDIT) cache-sweep --n 2..6

test: setup  ## all tests; about four minutes
	$(BIN)/python -m pytest

check: setup  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup  ## measured against ideal speedup; on an idle machine
	$(SKIPDIT) profile --model moving-digits-skip --n 2..6 --batch-size 32 --repeats 7

table%: setup  ## one table of the paper: make table1, table2, table8
	$(SKIPDIT) cache-sweep --recipe $@

tables: $(TABLES) demo  ## all of them, and the demo, into results/tiny
	cp results/sweeps/moving-digits-skip/sweep.md results/tiny/demo.md
	cp results/sweeps/moving-digits-skip/sweep.csv results/tiny/demo.csv
	cp results/sweeps/moving-digits-skip/sweep-samples.png results/tiny/demo-samples.png
	cp results/sweeps/moving-digits-skip/sweep-psnr-speedup.png results/tiny/demo-psnr-speedup.png

train: setup  ## the embedded models again: over an hour on two cores
	$(SKIPDIT) train --model classifier --steps 1500 --seed 0 --out $(EMBEDDED)/classifier
	$(SKIPDIT) train --model digits --steps 2400 --batch-size 128 --learning-rate 0.006 \
		--seed 0 --out $(EMBEDDED)/digits
	$(SKIPDIT) train --model digits-skip --start digits --skip-steps 150 --steps 1400 \
		--batch-size 128 --learning-rate 0.002 --seed 0 --out $(EMBEDDED)/digits-skip
	$(SKIPDIT) train --model moving-digits --steps 2000 --batch-size 32 --learning-rate 0.005 \
		--seed 0 --out $(EMBEDDED)/moving-digits
	$(SKIPDIT) train --model moving-digits-skip --start moving-digits --skip-steps 150 \
		--steps 2400 --batch-size 32 --learning-rate 0.003 --seed 0 \
		--out $(EMBEDDED)/moving-digits-skip

clean:  ## everything that can be made again
	rm -rf $(VENV) results/samples results/scores results/sweeps results/train
