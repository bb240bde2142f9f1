# Every target installs what it needs; a second call of any of them is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check bench clean lock system

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "towpath: needs Python 3.11 or later, got $$($(PYTHON) --version 2>&1); hint: make PYTHON=python3.12" >&2; exit 64; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "towpath: cannot make a virtual environment; hint: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: install
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) .venv-* .towpath .mypy_cache .ruff_cache .pytest_cache .hypothesis

lock:
	uv pip compile pyproject.toml --universal --all-extras --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock
