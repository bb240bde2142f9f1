# Every target installs what it needs; a second call of any of them is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: install system demo test check bench clean lock

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON): got $$($(PYTHON) --version 2>&1); expected Python 3.11 or later" >&2; \
	  echo "hint: make PYTHON=python3.12" >&2; exit 64; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "hint: apt-get install python3-venv" >&2; exit 2; }
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# What no wheel carries: mmdebstrap builds the images' stand-ins where no registry answers.
system:
	@./.ci/system-packages mmdebstrap git

demo: system install
	$(BIN)/python examples/demo.py

test: system install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

bench: system install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* .towpath .mypy_cache .ruff_cache .pytest_cache .hypothesis

# For developers: needs uv.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock
