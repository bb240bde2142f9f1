"""A session of the embedded engine, asked directly over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import dagger
import httpx
import pytest

from ci.engine.session import Session
from ci.events import EngineEvent, NodeOutput
from tests.sdk_session import user_session


class Client:
    """Sends queries to a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.url = f"http://127.0.0.1:{session.port}/query"
        self.http = httpx.AsyncClient(auth=(session.token, ""), timeout=60)

    async def ask(self, query: str, **headers: str) -> dict[str, Any]:
        """The whole response."""
        answer = await self.http.post(self.url, json={"query": query}, headers=headers)
        assert answer.status_code == 200, answer.text
        response: dict[str, Any] = answer.json()
        return response

    async def data(self, query: str) -> Any:
        """The innermost value of a response without errors."""
        response = await self.ask(query)
        assert "errors" not in response, response
        value = response["data"]
        while isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        return value

    async def error(self, query: str) -> dict[str, Any]:
        """The only error of a response."""
        response = await self.ask(query)
        (error,) = response["errors"]
        assert "Traceback" not in json.dumps(response)
        found: dict[str, Any] = error
        return found


@pytest.fixture
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a session with a store of its own."""
    async with Session(cache=tmp_path_factory.mktemp("cache"), environ={"A": "1"}) as session:
        made = Client(session)
        async with made.http:
            yield made


@pytest.fixture
def unique() -> str:
    """Another text in each test and run, to miss every cache."""
    return uuid.uuid4().hex


class Events(list[EngineEvent]):
    """What happened in a session."""

    def __init__(self) -> None:
        super().__init__()
        self._more = anyio.Event()

    def __call__(self, event: EngineEvent) -> None:
        """Take one; called in the session's loop, which is the test's."""
        self.append(event)
        self._more.set()
        self._more = anyio.Event()

    async def wait_output(self, text: str) -> None:
        """Return once a command has written this line."""
        with anyio.fail_after(60):
            while not any(isinstance(e, NodeOutput) and e.text == text for e in self):
                await self._more.wait()


@pytest.fixture
def events() -> Events:
    """What happened in ``session``."""
    return Events()


@pytest.fixture
def healthy_seconds() -> float:
    """How long ``session`` waits for a service; a test that awaits its end asks for less."""
    return 120


@pytest.fixture
async def session(
    events: Events, healthy_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Session]:
    """A session on the user's store, where the images are, that ``dagger.connection`` finds."""
    async with user_session(on_event=events, healthy_seconds=healthy_seconds) as session:
        for name, value in session.environment().items():
            monkeypatch.setenv(name, value)
        yield session


@pytest.fixture
async def dag(session: Session) -> AsyncIterator[dagger.Client]:
    """The SDK, connected to the session."""
    connection = dagger.connection()
    await connection.__aenter__()
    yield dagger.dag
    await connection.__aexit__(None, None, None)


@pytest.fixture
def base(dag: dagger.Client) -> dagger.Container:
    """A Debian with a shell, coreutils and perl-base."""
    return dag.container().from_("debian:bookworm-slim")


@pytest.fixture
def ask_session() -> Callable[[Session], Client]:
    """Makes a client of any session."""
    return Client
