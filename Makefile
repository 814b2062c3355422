# run · test · check: each sets up what it needs by itself. Needs Python 3.11+ and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCKED ?= $(CI)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(LOCKED),-c .ci/constraints.txt)
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev

.PHONY: run test torture check format bench-quick stub lock clean

run: $(READY)  ## the main job: train, test, look inside, write a report; on CIFAR-10 (or, without it, on shapes)
	$(BIN)/torchloupe run

test: $(DEV) check  ## everything that can fail
	$(BIN)/pytest -n $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() or 1))")

torture: $(DEV)  ## an hour of kills, faults, signals and fuzz: what was tried and what survived
	cd tests && $(abspath $(BIN))/python -m torture

check: $(DEV)  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-quick: $(DEV)  ## one training of `quick`, a step of each peer, the start: 5 minutes
	$(BIN)/python bench/train.py --short

stub: $(DEV)  ## write src/torchloupe/__init__.pyi anew, after a method's signature, result or docstring changed
	$(BIN)/python tests/stub.py
	$(BIN)/ruff check --quiet --fix src/torchloupe/__init__.pyi || true
	$(BIN)/ruff format --quiet src/torchloupe/__init__.pyi

lock: $(DEV)  ## note the versions that are installed here as those of CI
	{ head -2 .ci/constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed "s/+cpu//"; } > .ci/constraints.new
	mv .ci/constraints.new .ci/constraints.txt

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'torchloupe needs Python 3.11 or later')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(DEV): $(READY)
	$(PIP) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
