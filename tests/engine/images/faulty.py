"""A proxy before a real registry that does wrong what a test tells it to, on real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import httpx

__all__ = ["Faulty", "Reply", "Request", "answer", "cut", "edit", "garbage", "refuse_upload"]


@dataclass(frozen=True)
class Request:
    """What came; names of headers in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    """What goes back; ``cut`` bytes of the body, and then a reset; or ``raw`` bytes alone."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    raw: bytes = b""


Forward = Callable[[], Awaitable[Reply]]
Deed = Callable[[Request, Forward], Awaitable[Reply]]


@dataclass
class _Fault:
    method: str
    target: re.Pattern[str]
    deed: Deed
    when: Callable[[Request], bool]
    left: int


def answer(status: int, body: bytes = b"", **headers: str) -> Deed:
    """This, in place of what the registry says. Underscores in names of headers are dashes."""

    async def deed(_: Request, __: Forward) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reply(status, named, body)

    return deed


def garbage(raw: bytes) -> Deed:
    """These bytes and the end, in place of an answer."""

    async def deed(_: Request, __: Forward) -> Reply:
        return Reply(0, raw=raw)

    return deed


def cut(after: int) -> Deed:
    """What the registry says, but a reset after that many bytes of its body."""

    async def deed(_: Request, forward: Forward) -> Reply:
        reply = await forward()
        reply.cut = after
        return reply

    return deed


def edit(change: Callable[[Reply], None]) -> Deed:
    """What the registry says, changed."""

    async def deed(_: Request, forward: Forward) -> Reply:
        reply = await forward()
        change(reply)
        return reply

    return deed


def refuse_upload() -> Deed:
    """A reset before the upload is read to its end; the registry sees nothing of it."""

    async def deed(request: Request, _: Forward) -> Reply:
        raise ConnectionResetError

    return deed


class Faulty:
    """The proxy. An async context manager; it ends with the test that made it."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._faults: list[_Fault] = []
        self._client = httpx.AsyncClient(verify=False)
        self._server: asyncio.Server | None = None
        self.requests: list[Request] = []
        self.host = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._client.aclose()

    def on(
        self,
        method: str,
        target: str,
        deed: Deed,
        *,
        times: int = 1,
        when: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """Do that to the next requests of a method whose target matches; faults go in order."""
        self._faults.append(_Fault(method, re.compile(target), deed, when, times))

    def count(self, method: str, target: str = "") -> int:
        """How many such requests came."""
        return sum(
            request.method == method and re.search(target, request.target) is not None
            for request in self.requests
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                reply = await self._reply(request)
                if reply.raw:
                    writer.write(reply.raw)
                    await writer.drain()
                    return
                await _write(writer, request, reply)
                if reply.cut is not None:
                    raise ConnectionResetError
        except (ConnectionError, asyncio.IncompleteReadError):
            with suppress(OSError):  # it is closed already
                linger = struct.pack("ii", 1, 0)  # closing it resets
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        finally:
            writer.close()

    async def _reply(self, request: Request) -> Reply:
        async def forward() -> Reply:
            return await self._forward(request)

        for fault in self._faults:
            fits = fault.method == request.method and fault.target.search(request.target)
            if fault.left and fits and fault.when(request):
                fault.left -= 1
                return await fault.deed(request, forward)
        return await forward()

    async def _forward(self, request: Request) -> Reply:
        dropped = {"connection", "transfer-encoding", "content-length"}
        headers = {n: v for n, v in request.headers.items() if n.lower() not in dropped}
        response = await self._client.request(
            request.method, f"http://{self._upstream}{request.target}", headers=headers,
            content=request.body,
        )  # fmt: skip
        dropped |= {"date"} if request.method != "HEAD" else set()
        kept = {n: v for n, v in response.headers.items() if n.lower() not in dropped}
        if request.method == "HEAD":
            kept["content-length"] = response.headers.get("content-length", "0")
        return Reply(response.status_code, kept, response.content)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


async def _write(writer: asyncio.StreamWriter, request: Request, reply: Reply) -> None:
    headers = {"content-length": str(len(reply.body)), **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    if request.method != "HEAD":
        writer.write(reply.body[: reply.cut])
    await writer.drain()
