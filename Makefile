# The two commands: `make demo` and `make test`. Both install first, into .venv.
# `make test-all` adds what takes longer; TEST_ARGS and TEST_WORKERS go to pytest.
# Options of the demo: make demo DEMO_ARGS="--frames 400 --rate 50 --out my-demo"
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
DEMO_ARGS ?=
TEST_ARGS ?=
TEST_WORKERS ?= 3
# A worker takes whole files: what a file's tests share is made once.
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: install demo test test-all check docs linkcheck

install: $(STAMP)

# torch first and by itself: its pinned version may lie on disk as a CPU build.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv: torch ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) torch
	@echo "Installing into .venv: everything else (a few minutes the first time) ..."
	@$(PIP) --editable '.[all,dev]'
	@$(PIP) --no-deps xpcs-viewer  # what tests need of it needs no Qt; its dependencies would
	@echo "Compiling the numerics (half a minute, once) ..."
	@$(BIN)/python -c "from xpcs_live_denoise.numerics import compiled; compiled.prepare()"
	@touch $(STAMP)

demo: install
	@$(BIN)/xpcs-live-denoise demo $(DEMO_ARGS)

test: install
	$(PYTEST) -m "not (statistics or soak or deployment)" $(TEST_ARGS)

test-all: install
	$(PYTEST) $(TEST_ARGS)

# What CI runs besides the tests.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# The documentation, into docs/_build; a warning is an error.
docs: install
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build

# Asks for every page elsewhere that the documentation links to; needs the internet.
linkcheck: install
	$(BIN)/python -m sphinx --quiet -b linkcheck docs docs/_build/linkcheck
