# `make demo` and `make test` each make .venv, install what they need, then run.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo-ready
	$(BIN)/python test.py

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

.venv/demo-ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

.venv/test-ready: requirements-dev.txt requirements-deploy.txt requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .hypothesis
