# Two commands for a new user: `make demo` and `make test`. Everything lives in .venv; second runs install nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= dev
DEMO_OUT ?= runs/demo
# One test worker a core, eight at most; `make test WORKERS=0` runs everything in one process.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: install demo test soak check bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossplant needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(STAMP)

demo: install
	rm -rf $(DEMO_OUT)
	$(BIN)/crossplant simulate --preset demo --out $(DEMO_OUT)
	$(BIN)/crossplant rounds list --store $(DEMO_OUT)

test: install
	$(BIN)/python -m pytest tests -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

soak: install
	$(BIN)/python -m pytest tests -m network
	$(BIN)/python -m pytest tests -m soak -s

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache
