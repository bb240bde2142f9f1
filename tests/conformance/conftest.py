"""Runs on the session that the environment names, else on the embedded engine.

Only the public SDK is used, and only what holds on both engines is asserted. On the Dagger
engine: ``dagger run python -m pytest tests/conformance``.
"""

from __future__ import annotations

import os
import uuid
from importlib.metadata import version

import dagger
import pytest

IMAGE = os.environ.get("CONFORMANCE_IMAGE", "debian:bookworm-slim")


def pytest_configure(config: pytest.Config) -> None:
    """The mark of what came with a version."""
    config.addinivalue_line("markers", "since(version): skip on engines older than it")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session for the tests of a file; nothing is started where the environment names one."""
    if "DAGGER_SESSION_PORT" in os.environ:
        yield
        return
    from tests.sdk_session import embedded_session

    with embedded_session():
        yield


@pytest.fixture
async def dag(session):
    """A client of the session."""
    connection = dagger.connection()
    await connection.__aenter__()
    yield dagger.dag
    await connection.__aexit__(None, None, None)


@pytest.fixture
async def engine_version(dag) -> tuple[int, ...]:
    """Of the engine's API, as numbers."""
    return numbers(await dag.version())


def numbers(text: str) -> tuple[int, ...]:
    """A version, to compare."""
    return tuple(int(part) for part in text.lstrip("v").split("-")[0].split("."))


@pytest.fixture(autouse=True)
async def _since(request, engine_version):
    """Skip what a mark says came later than this engine or this SDK."""
    mark = request.node.get_closest_marker("since")
    if mark and min(engine_version, numbers(version("dagger-io"))) < numbers(mark.args[0]):
        pytest.skip(f"came with v{mark.args[0]}")


@pytest.fixture
def base(dag) -> dagger.Container:
    """A Debian with a shell, coreutils and perl-base."""
    container: dagger.Container = dag.container().from_(IMAGE)
    return container


@pytest.fixture
async def _owners(base) -> None:
    """Files can belong to others; an engine that runs as an ordinary user may not keep it."""
    probe = base.with_exec(["sh", "-c", "touch /x && chown nobody /x && stat -c %U /x"])
    if (await probe.stdout()).strip() != "nobody":
        pytest.skip("this engine runs with a single uid and keeps no owners")


@pytest.fixture
def unique() -> str:
    """Another text in each test and run, to miss every cache."""
    return uuid.uuid4().hex
