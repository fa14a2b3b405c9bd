# make run    set up a virtual environment, render the sample, detect its cracks
# make test   set up and run every test
PYTHON ?= python3
# cpu, cu126, cu130, … chooses another build of torch; empty takes the one from the package index
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint viz mlflow docs requirements

run: $(READY)
	$(BIN)/kedro run --pipeline sample
	$(BIN)/kedro run --pipeline anomaly

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

viz: $(READY)
	$(BIN)/kedro viz run

mlflow: $(READY)
	$(BIN)/kedro mlflow ui

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the documentation lies in site/index.html"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv==$$(sed -n 's/^# uv==//p' requirements.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(TORCH),--torch-backend $(TORCH)) -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# Pins every package, by name and version alone; torch itself pins the CUDA packages that its build needs.
requirements: $(READY)
	@{ echo "# uv==$$($(BIN)/uv --version | cut -d' ' -f2)"; \
	   $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --no-emit-index-url --no-emit-find-links $$(printf ' --no-emit-package %s' $$($(BIN)/uv pip list --format=freeze | sed -n 's/^\(nvidia-[^=]*\|cuda-[^=]*\|triton\)==.*/\1/p')) pyproject.toml; } > requirements.new
	@mv requirements.new requirements.txt
