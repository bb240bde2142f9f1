"""Sessions over stores that tests name, so that several can share one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import dagger
import pytest
from anyio.from_thread import start_blocking_portal

from ci.engine.session import Session
from tests.conformance.git_server import GitServer, Repository, serving

Connect = Callable[[], AbstractAsyncContextManager[dagger.Client]]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that knows what SDKs ask first."""
    return tmp_path_factory.mktemp("known")


@pytest.fixture
def cache(known: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the test's own."""
    own = tmp_path_factory.mktemp("cache")
    if (known / "v1/records/introspection").is_dir():
        shutil.copytree(known / "v1/records/introspection", own / "v1/records/introspection")
    return own


@pytest.fixture(scope="module")
def session(known: Path) -> Iterator[Session]:
    """A session for the tests of a file."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Session(cache=known)) as session,
    ):
        yield session


@pytest.fixture
async def dag(session: Session) -> AsyncIterator[dagger.Client]:
    """A client of the file's session."""
    async with connected(session) as client:
        yield client


@pytest.fixture
def connect(cache: Path) -> Connect:
    """A session at each call, all of the test's own store; a client of it."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[dagger.Client]:
        async with Session(cache=cache) as session, connected(session) as client:
            yield client

    return connect


@asynccontextmanager
async def connected(session: Session) -> AsyncIterator[dagger.Client]:
    """A client."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in session.environment().items():
            patch.setenv(name, value)
        async with dagger.connection():
            yield dagger.dag


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """A git server; its repositories are in ``tmp_path/served``."""
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def repository(server: GitServer) -> Repository:
    """A repository that the server gives out at /project/.git: two commits, tags, a branch."""
    made = Repository(server.folder / "project")
    made.commit("first", a_txt="1\n", sub__b_txt="b\n")
    made.git("tag", "v1.0.0")
    made.git("branch", "old")
    made.commit("second", a_txt="2\n")
    made.git("tag", "--annotate", "--message=tagged", "v1.10.0")
    made.git("tag", "v1.9.0-rc.1")
    return made
