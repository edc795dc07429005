# The two commands: `make demo` and `make test`. Both install first, into .venv.
# Options of the demo: make demo DEMO_ARGS="--frames 400 --rate 50 --out my-demo"
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
DEMO_ARGS ?=

.PHONY: install demo test check

install: $(STAMP)

# torch first and by itself: its pinned version may lie on disk as a CPU build.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv: torch ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) torch
	@echo "Installing into .venv: everything else (a few minutes the first time) ..."
	@$(PIP) --editable '.[all,dev]'
	@touch $(STAMP)

demo: install
	@$(BIN)/xpcs-live-denoise demo $(DEMO_ARGS)

test: install
	$(BIN)/python -m pytest

# What CI runs besides the tests.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
