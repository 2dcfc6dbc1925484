# Two commands do everything on a fresh machine with Python 3.11, pip and git: make demo, make test.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# One process a core; tests that share what is costly to make stay in one of them.
PARALLEL := -n auto --dist loadgroup

.PHONY: demo test test-fast lint schema clean

demo: $(READY)
	$(BIN)/python examples/digits/demo.py

test: $(READY)
	./tools/system-packages
	$(BIN)/pytest $(PARALLEL)

test-fast: $(READY)
	$(BIN)/pytest $(PARALLEL) -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

schema: $(READY)
	$(BIN)/python -m edgeconv.execution.manifest > docs/manifest.schema.json
	$(BIN)/python -m edgeconv.targets.schema > docs/target.schema.json

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist $(VENV)
