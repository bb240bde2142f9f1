# Every target installs what it needs; a second call of any of them is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := -m pip --disable-pip-version-check --quiet

# The SDK of dagger.json's engineVersion, with the dependencies and nothing else: what a Dagger engine
# of that version loads the module with. Tests run stages and module in it.
OLD_SDK := 0.20.3
OLD_VENV := .venv-dagger-$(OLD_SDK)
OLD_STAMP := $(OLD_VENV)/.installed

.PHONY: install system test-system demo test test-peers check bench clean lock

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON): got $$($(PYTHON) --version 2>&1); expected Python 3.11 or later" >&2; \
	  echo "hint: make PYTHON=python3.12" >&2; exit 64; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "hint: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python $(PIP) install --require-hashes --no-deps -r requirements.lock
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q ci
	@touch $(STAMP)

# Towpath itself is built by the first environment: here is nothing to build with.
$(OLD_STAMP): requirements-dagger-$(OLD_SDK).lock $(STAMP)
	@test -x $(OLD_VENV)/bin/pip || $(PYTHON) -m venv $(OLD_VENV)
	$(OLD_VENV)/bin/python $(PIP) install --require-hashes --no-deps -r $<
	rm -rf $(OLD_VENV)/wheel
	$(BIN)/python -c 'from hatchling.build import build_editable as b; b("$(OLD_VENV)/wheel")'
	$(OLD_VENV)/bin/python $(PIP) install --no-deps --force-reinstall $(OLD_VENV)/wheel/*.whl
	@touch $(OLD_STAMP)

# What no wheel carries: mmdebstrap builds the images' stand-ins where no registry answers.
system:
	@./.ci/system-packages mmdebstrap git

# Other people's tools, against which images are tested, and an assembler.
test-system: system
	@./.ci/system-packages docker-registry htpasswd:apache2-utils openssl skopeo slirp4netns as:binutils cc:build-essential

demo: system install
	$(BIN)/python examples/demo.py

test: test-system install $(OLD_STAMP)
	$(BIN)/python -m tests.images
	$(BIN)/python -m tests.ordinary_user tests.images debian:bookworm-slim
	$(BIN)/python -m tests.ordinary_user pytest -c pyproject.toml -q -n 2 --dist loadfile tests/conformance
	$(BIN)/python -m pytest --need-all -m "not peers" -n 2 --dist loadfile --no-loadscope-reorder

# Against Docker, Podman and sshd themselves, each started by the tests and ended with them; as root.
test-peers: test-system install
	@./.ci/system-packages dockerd:docker.io podman runc sshd:openssh-server
	$(BIN)/python -m tests.images debian:bookworm-slim
	$(BIN)/python -m pytest --need-all -m peers tests/peers tests/engine/sources

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
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --quiet
lock:
	$(COMPILE) --all-extras -o requirements.lock
	grep == requirements.lock | grep -v ^dagger-io== | tr -d '\\' > $(VENV)/constraints.txt
	echo dagger-io==$(OLD_SDK) > $(VENV)/overrides.txt
	$(COMPILE) -c $(VENV)/constraints.txt --override $(VENV)/overrides.txt \
	  -o requirements-dagger-$(OLD_SDK).lock
