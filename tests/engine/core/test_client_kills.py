"""kill -9 of the client: what it asked for ends with it, and the session serves the next."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ci.engine.session import Session
from ci.engine.store.store import Store
from ci.events import EngineEvent, ExecFinished, ExecStarted
from tests.engine.core.test_kills import seed, wait_until_none_lives

KILLS = 20

#: Sends one request and waits for its answer.
CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(sys.stdin.buffer.read())
    sys.stdout.buffer.write(connection.recv(1 << 20))
"""


class Asked:
    """A session, and what happens in it."""

    def __init__(self, session: Session, events: asyncio.Queue[EngineEvent]) -> None:
        self.session = session
        self.events = events
        #: ID of the root file system.
        self.root = ""

    def request(self, query: str) -> bytes:
        """A query as it goes over the wire."""
        body = json.dumps({"query": query}).encode()
        token = base64.b64encode(f"{self.session.token}:".encode())
        return (
            b"POST /query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Authorization: Basic %s\r\nContent-Length: %d\r\n\r\n%s"
        ).replace(b"\\\\r\\\n", b"\r\n") % (token, len(body), body)

    async def ask(self, query: str) -> Any:
        """The data of an answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.session.port)
        writer.write(self.request(query))
        answer = await reader.read()
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])["data"]

    def running(self, script: str) -> str:
        """A query that runs a shell script."""
        words = json.dumps(["sh", "-c", script])
        return (
            f"{{container{{withRootfs(directory:{json.dumps(self.root)})"
            f"{{withExec(args:{words}){{stdout}}}}}}}}"
        )

    async def wait_for(self, kind: type[EngineEvent], script: str) -> None:
        """Until such an event of that script comes."""
        while True:
            event = await self.events.get()
            if isinstance(event, kind) and script in getattr(event, "command", ()):
                return


@pytest.fixture
async def asked(tmp_path: Path, rootfs: Path) -> AsyncIterator[Asked]:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[EngineEvent] = asyncio.Queue()

    def on_event(event: EngineEvent) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    async with Session(cache=tmp_path / "cache", on_event=on_event) as session:
        it = Asked(session, events)
        found = await it.ask(f"{{host{{directory(path:{json.dumps(str(rootfs))}){{id}}}}}}")
        it.root = found["host"]["directory"]["id"]
        yield it


async def test_the_query_after_a_killed_client_is_right(asked: Asked, tmp_path: Path) -> None:
    """At random moments: before the command runs, while it does, or as it ends."""
    drawn = random.Random(seed())
    mark = f"client-{tmp_path.name}"
    for number in range(KILLS):
        script = f"echo {number}; sleep {drawn.choice(['0', '0.05', '600'])}; : {mark}"
        client = subprocess.Popen(  # noqa: ASYNC220 - to be killed at once
            [sys.executable, "-S", "-c", CLIENT, str(asked.session.port)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert client.stdin is not None
        client.stdin.write(asked.request(asked.running(script)))
        client.stdin.close()
        await asked.wait_for(ExecStarted, script)
        await anyio.sleep(drawn.uniform(0, 0.03))
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
        await asked.wait_for(ExecFinished, script)
        after = await asked.ask(asked.running(f"echo after {number}"))
        assert after["container"]["withRootfs"]["withExec"]["stdout"] == f"after {number}\n"
    wait_until_none_lives(mark)
    with Store(tmp_path / "cache") as store:
        assert list((store.root / "claims").iterdir()) == []
