"""A session of the embedded engine, asked directly over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ci.engine.session import Session
from ci.events import EngineEvent


class Client:
    """Sends queries to a session."""

    def __init__(self, session: Session, events: list[EngineEvent]) -> None:
        self.session = session
        self.events = events
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
    events: list[EngineEvent] = []
    async with Session(
        cache=tmp_path_factory.mktemp("cache"), on_event=events.append, environ={"A": "1"}
    ) as session:
        made = Client(session, events)
        async with made.http:
            yield made
