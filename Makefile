# make .venv   the virtual environment with everything in it
# make demo    the main job end to end, into ./demo-out
# make test    the test suite
# make lint    style and types
# make soak    kill trainings at random moments and compare what they leave (an hour)
# make evidence   the tables of docs/results/small-data.md from its records, without training
#
# PYTHON=...   the Python to build .venv from (3.10 or later). A torch that it already has is used
#              as it is and never replaced.
# TORCH=...    what to install where there is none.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help .venv demo test lint evidence soak

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

.venv: $(STAMP)

# Where the given Python keeps its torch; empty if it has none.
define FIND_TORCH
import importlib.util, pathlib
spec = importlib.util.find_spec("torch")
print(pathlib.Path(spec.origin).parent.parent if spec and spec.origin else "")
endef

define CHECK_PYTHON
import sys
sys.exit(None if sys.version_info >= (3, 10) else "tsa-mt needs Python 3.10 or later and %s is %s: \
make .venv PYTHON=/path/to/python3.11" % (sys.executable, sys.version.split()[0]))
endef

define SITE
import sysconfig
print(sysconfig.get_path("purelib"))
endef

define PIN_TORCH
from importlib.metadata import version
print("torch==" + version("torch"))
endef

export FIND_TORCH CHECK_PYTHON SITE PIN_TORCH

# Built in this order: a torch first (fairseq's build needs one, and pip would take a larger one
# than necessary), then fairseq by hash, then this project in place under constraints. A fairseq
# of the given Python is not enough: its commands would be missing here. Nothing here needs the
# torchvision and torchaudio that pytorchcv and fairseq declare, and where they were built for
# another torch they break transformers.
$(STAMP): setup.py constraints.txt fairseq-hashes.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@set -e; test -x $(BIN)/python || { \
	    found="$$($(PYTHON) -c "$$FIND_TORCH")"; \
	    $(PYTHON) -m venv $${found:+--system-site-packages} $(VENV); \
	    test -z "$$found" || { \
	        echo "using the torch in $$found"; \
	        echo "$$found" > "$$($(BIN)/python -c "$$SITE")/parent.pth"; }; }
	@$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) install "$(TORCH)"
	@$(BIN)/python -c "$$PIN_TORCH" > $(VENV)/torch.txt
	$(PIP) install -c $(VENV)/torch.txt setuptools wheel cython numpy
	$(PIP) install $$(test -x $(BIN)/fairseq-train || echo --ignore-installed) \
	    --no-build-isolation --no-deps --require-hashes -r fairseq-hashes.txt
	$(PIP) install -c $(VENV)/torch.txt -c constraints.txt --no-build-isolation -e ".[test]"
	@for name in torchvision torchaudio; do \
	    $(BIN)/python -c "import $$name" 2>/dev/null || $(PIP) uninstall -q -y $$name; done
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo/run.py --out demo-out

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

soak: $(STAMP)
	$(BIN)/python tests/reliability/soak.py --kills 20

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

evidence: $(STAMP)
	$(BIN)/python benchmarks/evidence/tables.py
