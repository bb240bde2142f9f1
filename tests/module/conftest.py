"""The SDKs that the module must work with, and a host for it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.module.api import Module
from tests.module.host import Host, hosted

ROOT = Path(__file__).parents[2]

#: The interpreter that has each SDK. `make test` makes the second one.
PYTHONS = {
    "newest": Path(sys.executable),
    "0.20.3": ROOT / ".venv-dagger-0.20.3" / "bin" / "python",
}


@pytest.fixture(scope="package", params=PYTHONS)
def python(request: pytest.FixtureRequest) -> Path:
    """With each SDK in turn."""
    path = PYTHONS[request.param]
    assert path.exists(), f"{path.parent.parent.name} is missing: `make test` makes it"
    return path


@pytest.fixture(scope="package")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that keeps the answers to introspection."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def host(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """A host on a session of its own."""
    folder = tmp_path / "host"
    folder.mkdir()
    async with hosted(folder, cache, monkeypatch) as made:
        yield made


@pytest.fixture(scope="package")
def module(python: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Module:
    """The module as each SDK registers it."""

    async def register() -> Module:
        with pytest.MonkeyPatch.context() as patch:
            async with hosted(tmp_path_factory.mktemp("host"), cache, patch) as made:
                return await made.register(python)

    return anyio.run(register)
