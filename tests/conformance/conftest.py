"""Runs on the session that the environment names, else on the embedded engine, else on Dagger's.

Only the public SDK is used, and only what holds on all of them is asserted. README.md beside this
file says what a run needs.
"""

from __future__ import annotations

import functools
import inspect
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version

import anyio
import dagger
import pytest

IMAGE = os.environ.get("CONFORMANCE_IMAGE", "debian:bookworm-slim")

#: Each of these names an engine to the SDK.
NAMED = (
    "DAGGER_SESSION_PORT",
    "_EXPERIMENTAL_DAGGER_RUNNER_HOST",
    "_EXPERIMENTAL_DAGGER_CLI_BIN",
)
#: Seconds for one test, after which it has failed: it would wait forever.
LIMIT = 300


def pytest_configure(config: pytest.Config) -> None:
    """The mark of what came with a version."""
    config.addinivalue_line("markers", "since(version): skip on engines older than it")


def pytest_report_header() -> str:
    """Which engine is asked."""
    named = next((name for name in NAMED if name in os.environ), None)
    return f"engine: {f'named by {named}' if named else 'embedded, else what the SDK provides'}"


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """Have anyio run the tests, whose plugin comes with the SDK, unless pytest-asyncio does."""
    if inspect.iscoroutinefunction(obj) and not _asyncio_runs(collector.config):
        pytest.mark.usefixtures("anyio_backend")(obj)


def _asyncio_runs(config: pytest.Config) -> bool:
    if not config.pluginmanager.hasplugin("asyncio"):
        return False
    mode = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    return str(mode) == "auto"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test hangs."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _limited(item.obj)


def _limited(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        with anyio.fail_after(LIMIT):
            await test(*args, **kwargs)

    return limited


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What anyio runs the tests with."""
    return "asyncio"


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """A session of the embedded engine, for the tests of a file.

    Where the environment names another engine nothing is started, and where there is no embedded
    one the SDK provides an engine to each connection.
    """
    if any(name in os.environ for name in NAMED):
        yield
        return
    try:
        from tests.sdk_session import embedded_session
    except ModuleNotFoundError:
        yield
        return
    with embedded_session():
        yield


@pytest.fixture
async def dag(session):
    """A client of the session."""
    async with dagger.connection():
        yield dagger.dag


@pytest.fixture(scope="module")
def engine_version(session) -> tuple[int, ...]:
    """Of the engine's API, as numbers."""

    async def ask() -> str:
        async with dagger.connection():
            return await dagger.dag.version()

    return numbers(anyio.run(ask))


def numbers(text: str) -> tuple[int, ...]:
    """A version, to compare."""
    return tuple(int(part) for part in text.lstrip("v").split("-")[0].split("+")[0].split("."))


@pytest.fixture(autouse=True)
def _since(request, engine_version):
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
