# Two commands do all set-up: `make demo` and `make test`. Both make .venv from the pinned lock first.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
MARKS ?= not slurm
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: setup demo study test test-kill test-slurm docs browser lint lock

setup: .venv/.complete

.venv/.complete: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup  ## the synthetic cohort, from raw files to results/report/index.html
	$(BIN)/python workflow_scripts/once.py --cores $(CORES)
	@echo "The report is results/report/index.html"

study: setup  ## the comparison of docs/study.md, which it writes anew; hours, and 20 GB of disk
	$(BIN)/snakemake --cores $(CORES) --configfile configs/study.yaml -- study
	cp results/study/report/study.md docs/study.md
	cp results/study/report/images/study_*.png docs/images/

test: setup  ## everything, the workflow included; MARKS= also what installs and starts a SLURM
	$(BIN)/python -m pytest -m "$(MARKS)"

test-kill: setup  ## kills a study, and a training, twenty times in succession
	PTACL_KILLS=20 $(BIN)/python -m pytest tests/workflow tests/training -k killed_at_random

test-slurm: setup  ## a study through a real SLURM, which it installs: only with PTACL_TEST_SLURM=1 or in CI
	$(BIN)/python -m pytest tests/workflow/test_slurm.py -m slurm

docs: setup  ## the site, into site/: from docs/, the docstrings and the help of the commands; needs no network
	$(BIN)/sphinx-build -q -W --keep-going -b html docs site
	@echo "The site is site/index.html"

browser:  ## a Chromium for the tests of the report, which skip without one: only with PTACL_TEST_BROWSER=1 or in CI
	@command -v chromium >/dev/null || { test -n "$$CI$$PTACL_TEST_BROWSER" && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/mypy
	$(BIN)/python envs/generate.py --check

lock:  ## the newest versions that pyproject.toml allows, without hashes (their digits look like participant ids)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" setuptools -e ".[workflow,cluster,preprocess,train,report,test,docs]"
	.venv-lock/bin/python -m pip freeze --all --exclude ptacl --exclude pip | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock
