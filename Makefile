# `make demo` and `make test` include the complete set-up; later runs skip finished steps.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KERNELS := $(shell find frozenseg/ops -path '*/csrc/*' -type f)

demo: $(VENV)/package.stamp ## segment synthetic scenes with the shipped model
	$(BIN)/frozenseg demo

test: $(VENV)/package.stamp ## all tests that need neither GPU nor network
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadgroup

test-gpu: $(VENV)/package.stamp
	FROZENSEG_BUILD_CUDA=1 $(BIN)/pip install --no-build-isolation --no-deps -e . && $(BIN)/pytest -m gpu

lint: $(VENV)/package.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/package.stamp
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/package.stamp
	$(BIN)/pyright

fuzz: $(VENV)/package.stamp ## 10,000 random and hostile inputs; about half an hour on two cores
	$(BIN)/python -m tools.fuzz

faults: $(VENV)/package.stamp ## 100 kills of training, evaluation, SAM masks and preparation
	$(BIN)/python -m tools.fuzz.faults

audit: $(VENV)/package.stamp ## complete pins, and known advisories against them (needs a network)
	$(BIN)/python tools/check_requirements.py
	test -x $(VENV)/audit/bin/pip-audit || ($(BIN)/python -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --disable-pip-version-check pip-audit==2.10.1)
	$(VENV)/audit/bin/pip-audit --requirement requirements.txt --no-deps --disable-pip

docs: ## the documentation as a site, in build/site
	test -x $(VENV)/docs/bin/mkdocs || ($(PYTHON) -m venv $(VENV)/docs && $(VENV)/docs/bin/python -m pip install --disable-pip-version-check -r requirements-docs.txt)
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build

install: $(VENV)/package.stamp ## the virtual environment with the package in it

$(VENV)/requirements.stamp: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required, found %s: run make PYTHON=python3.12" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/package.stamp: $(VENV)/requirements.stamp setup.py pyproject.toml $(KERNELS)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -c 'from frozenseg.ops.ms_deform_attn import implementation; print("deformable attention on CPU:", implementation("cpu"))'
	touch $@

.PHONY: demo test test-gpu lint format types fuzz faults audit docs install
