"""Egress: an HTTP and CONNECT proxy, the way out for programs in a private network.

It forwards to the proxy that the host itself uses, where its environment names one. It refuses
the host's own loopback: what listens there is not meant for containers.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import anyio
from anyio.abc import ByteStream, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

__all__ = ["Egress"]

_HEAD_LIMIT = 64 * 1024
_CONNECT_SECONDS = 30.0
_CHUNK = 1 << 16

_BROKEN = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class _Refused(Exception):
    """The request is answered with a status instead."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Egress:
    """Forwards what programs ask for."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._proxies = _proxies(os.environ if environ is None else environ)

    @property
    def forwards(self) -> bool:
        """It passes on to a proxy that the host itself needs."""
        return any(name != "no" for name in self._proxies)

    @asynccontextmanager
    async def serving(self, listener: socket.socket) -> AsyncIterator[str]:
        """Serve connections to the socket while the context lasts; gives the proxy's URL."""
        address, port = listener.getsockname()
        listener.settimeout(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._accept, listener)
            try:
                yield f"http://{address}:{port}"
            finally:
                tasks.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            async with anyio.create_task_group() as tasks:
                while True:
                    await anyio.wait_readable(listener)
                    with suppress(BlockingIOError, ConnectionError):
                        connection, _ = listener.accept()
                        connection.settimeout(0)
                        tasks.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        """One connection, which is one request or one tunnel."""
        async with await SocketStream.from_socket(connection) as client:
            with suppress(*_BROKEN):
                try:
                    await self._forward(client)
                except _Refused as refused:
                    body = f"{refused.why}\n"
                    head = f"HTTP/1.1 {refused.status}\r\nConnection: close\r\n"
                    await client.send(
                        f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
                    )

    async def _forward(self, client: SocketStream) -> None:
        """Read the request's head, connect, and let the bytes through."""
        buffered = BufferedByteReceiveStream(client)
        try:
            head = await buffered.receive_until(b"\r\n\r\n", _HEAD_LIMIT)
        except anyio.DelimiterNotFound:
            raise _Refused("431 Request Header Fields Too Large", "the head is too long") from None
        line, _, fields = head.partition(b"\r\n")
        try:
            method, target, version = line.decode("latin-1").split(" ")
        except ValueError:
            raise _Refused("400 Bad Request", "not an HTTP request") from None
        if method == "CONNECT":
            upstream, greeting = await self._tunnel(target)
            await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream, greeting = await self._request(method, target, version, fields)
        async with upstream:
            await upstream.send(greeting + buffered.buffer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_pump, client, upstream)
                await _pump(upstream, client)
                tasks.cancel_scope.cancel()

    async def _tunnel(self, target: str) -> tuple[SocketStream, bytes]:
        """A connection for CONNECT."""
        url = urlsplit(f"//{target}")
        host, port = _address(url, 443)
        proxy = self._proxy("https", host)
        if proxy is None:
            return await _dial(host, port), b""
        upstream = await _dial(*_address(proxy, 80), may_be_local=True)
        await upstream.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = await BufferedByteReceiveStream(upstream).receive_until(b"\r\n\r\n", _HEAD_LIMIT)
        if answer.split(b" ")[1:2] != [b"200"]:
            await upstream.aclose()
            raise _Refused("502 Bad Gateway", "the host's proxy refused the connection")
        return upstream, b""

    async def _request(
        self, method: str, target: str, version: str, fields: bytes
    ) -> tuple[SocketStream, bytes]:
        """A connection for a request in absolute form, and the head to send on it."""
        url = urlsplit(target)
        if url.scheme != "http":
            raise _Refused("400 Bad Request", "this is a proxy: ask for an http:// URL, or CONNECT")
        host, port = _address(url, 80)
        kept = [
            field
            for field in fields.decode("latin-1").split("\r\n")
            if field
            and field.partition(":")[0].lower()
            not in ("connection", "proxy-connection", "proxy-authorization", "keep-alive")
        ]
        proxy = self._proxy("http", host)
        if proxy is None:
            upstream = await _dial(host, port)
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        else:
            upstream = await _dial(*_address(proxy, 80), may_be_local=True)
            path = target
        head = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""])
        return upstream, head.encode("latin-1")

    def _proxy(self, scheme: str, host: str) -> SplitResult | None:
        """The host's own proxy for this destination."""
        found = self._proxies.get(scheme)
        if not found or proxy_bypass_environment(host, self._proxies):
            return None
        return urlsplit(found)


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies of an environment, by scheme, and ``no``."""
    if environ is os.environ:
        return getproxies_environment()
    return {
        name[: -len("_proxy")].lower(): value
        for name, value in environ.items()
        if value and name.lower().endswith("_proxy")
    }


def _address(url: SplitResult, default: int) -> tuple[str, int]:
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host:
        raise _Refused("400 Bad Request", "no host in the request")
    return host, port or default


async def _dial(host: str, port: int, *, may_be_local: bool = False) -> SocketStream:
    """Connect; never to the host's loopback unless its own proxy is there."""
    try:
        with anyio.fail_after(_CONNECT_SECONDS):
            stream = await anyio.connect_tcp(host, port)
    except (OSError, TimeoutError) as error:
        raise _Refused("502 Bad Gateway", f"{host}:{port}: {error}") from None
    reached = stream.extra(anyio.abc.SocketAttribute.remote_address)[0]  # noqa: S610
    if not may_be_local and ipaddress.ip_address(reached.partition("%")[0]).is_loopback:
        await stream.aclose()
        raise _Refused("403 Forbidden", f"{host} is the engine's own machine")
    return stream


async def _pump(source: ByteStream, sink: ByteStream) -> None:
    """Copy until the source ends."""
    with suppress(*_BROKEN):
        async for piece in source:
            await sink.send(piece)
    with suppress(*_BROKEN):
        await sink.send_eof()
