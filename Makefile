# `make demo` and `make test` do everything on a fresh machine with Python >= 3.11 and make.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow soak bench scale env dev wheel clean

env: $(VENV)/.runtime
dev: $(VENV)/.dev

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Beaver needs Python 3.11 or newer; none was found on the PATH."; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	@echo "installing Beaver into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing Beaver and its test tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.runtime

demo: env
	@$(BIN)/beaver demo

# Hundreds of processes start: what they import is compiled once, whatever the environment says of bytecode.
test slow: export PYTHONDONTWRITEBYTECODE :=

# Three workers for two cores: while a test waits for a clock, the others compute.
test: dev
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow"

slow: dev
	@$(BIN)/python -m pytest -m slow --timeout 3600

# Real nodes under faults for SOAK_HOURS hours; SOAK="--seed N" begins at a seed.
soak: dev
	@$(BIN)/python -m tests.soak --hours $(or $(SOAK_HOURS),1) $(SOAK)

check: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_layers.py tests/test_exports.py

bench: env
	@$(BIN)/beaver bench

scale: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@mkdir -p results
	@$(BIN)/python benchmarks/scale.py --json results/scale.jsonl --plot results/scale.svg

wheel: dev
	@$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
