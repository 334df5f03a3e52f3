# `make demo` and `make test` include the complete set-up; later runs skip finished steps.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KERNELS := $(shell find frozenseg/ops -path '*/csrc/*' -type f)

demo: $(VENV)/package.stamp ## segment synthetic scenes with the shipped model
	$(BIN)/frozenseg demo

test: $(VENV)/package.stamp ## all tests that need neither GPU nor network
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8

test-gpu: $(VENV)/package.stamp
	FROZENSEG_BUILD_CUDA=1 $(BIN)/pip install --no-build-isolation --no-deps -e . && $(BIN)/pytest -m gpu

lint: $(VENV)/package.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/package.stamp
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/package.stamp
	$(BIN)/pyright

install: $(VENV)/package.stamp ## create the virtual environment and install the package

$(VENV)/requirements.stamp: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required, found %s: run make PYTHON=python3.12" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/package.stamp: $(VENV)/requirements.stamp setup.py pyproject.toml $(KERNELS)
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -c 'from frozenseg.ops.ms_deform_attn import implementation; print("deformable attention on CPU:", implementation("cpu"))'
	touch $@

.PHONY: demo test test-gpu lint format types install
