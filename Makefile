# make demo: recover faces from 500 measurements.  make test: lint, types and tests.  make docs: the site in build/site.
# They make .venv by themselves and need only make and Python 3.11 or newer; `make test PYTHON=python3.12` picks another.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint docs
.NOTPARALLEL:

demo: .venv/.demo-installed
	$(BIN)/cs-lip recover --measurements 500 --out demo --overwrite
	@echo "The picture is $(CURDIR)/demo/recovery.png"

# A process a core, each with one thread: the tensors of the tests are too small to share.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/.dev-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.dev-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "The first page is $(CURDIR)/build/site/index.html"

# The stamps say that an install ended well, so that a repeat skips it; an edited pyproject.toml installs again.
# The development install holds all that the demo's needs, hence stamps both.
.venv/.demo-installed: .venv/.made pyproject.toml
	@echo "Installing cs-lip into .venv; torch is large, so the first time takes some minutes."
	@$(PIP) --editable .
	@touch $@

.venv/.dev-installed: .venv/.made pyproject.toml
	@echo "Installing cs-lip and its development tools into .venv; torch is large, so the first time takes some minutes."
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/.demo-installed

.venv/.made:
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON); install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cs-lip needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; try make $(MAKECMDGOALS) PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu, install python3-venv"; exit 1; }
	@touch $@
