# `make demo`, `make web` and `make test` each make .venv, install what they need, then run.
# `make demo TORCH=cpu` takes PyTorch's build for CPUs, without gigabytes of CUDA libraries.
PYTHON ?= python3
BIN := .venv/bin
TORCH ?=
CPU_WHEELS := https://download.pytorch.org/whl/cpu

.PHONY: demo web test lint clean

demo: .venv/demo-ready
	$(BIN)/python test.py

web: .venv/web-ready web/node_modules
	$(BIN)/python web/build.py

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m evaluation.tables
	$(BIN)/pyright

.venv/demo-ready: requirements.txt
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	grep -E '^torch(vision)?[<>=]' requirements.txt > .venv/torch.txt
	$(BIN)/python -m pip install -q --retries 1 --timeout 20 --index-url $(CPU_WHEELS) -r .venv/torch.txt \
		|| echo "notice: $(CPU_WHEELS) can't be reached; PyTorch's default build is installed"
endif
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

.venv/web-ready: requirements-deploy.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q numpy $$(grep '^onnxruntime' requirements-deploy.txt)
	touch $@

web/node_modules: web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

.venv/test-ready: requirements-dev.txt requirements-deploy.txt requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv runs web/dist web/node_modules .pytest_cache .ruff_cache .hypothesis
