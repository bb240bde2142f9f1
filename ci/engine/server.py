"""Server: the GraphQL endpoint of a session, on loopback, for holders of its token."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn

from ci.engine.api.context import Context
from ci.engine.connections import Connection
from ci.engine.queries import Queries, log_crash
from ci.engine.trace import TRACE

__all__ = ["Server"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOSTS = (b"127.0.0.1", b"localhost")
_BODY_LIMIT = 64 * 1024 * 1024
_STOP_SECONDS = 5.0


class Server:
    """Listens on 127.0.0.1, at a port that the system gives, and answers ``POST /query``."""

    def __init__(self, queries: Queries, context: Context, token: str) -> None:
        self._queries = queries
        self._context = context
        self._token = token.encode()
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Within the context, requests are answered; at its end, those in flight are cancelled."""
        # The protocol is named so that asyncio sets TCP_NODELAY on connections.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            loop="asyncio",
            http=Connection,
            ws="none",
            timeout_keep_alive=600,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=64 * 1024,
        )
        server = _Quiet(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            await server.ready.wait()
            try:
                yield
            finally:
                server.should_exit = True
                server.stopping.set()
                with anyio.CancelScope(shield=True), anyio.move_on_after(_STOP_SECONDS):
                    await server.ended.wait()
                tasks.cancel_scope.cancel()

    async def app(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if not _is_local(headers):
            await _refuse(send, 403, "a page of a browser: only programs on this machine may ask")
        elif not self._is_authorised(headers.get(b"authorization", b"")):
            realm = (b"www-authenticate", b'Basic realm="towpath"')
            await _refuse(send, 401, "wrong or missing session token", realm)
        elif scope["path"] != "/query":
            await _refuse(send, 404, "no such path; use /query")
        elif scope["method"] != "POST":
            await _refuse(send, 405, "use POST", (b"allow", b"POST"))
        else:
            await self._query(headers, receive, send)

    def _is_authorised(self, header: bytes) -> bool:
        """The header holds the token as the user name. Takes as long for any wrong one."""
        scheme, _, encoded = header.partition(b" ")
        try:
            user, _, _ = base64.b64decode(encoded, validate=True).partition(b":")
        except binascii.Error:
            return False
        return hmac.compare_digest(user, self._token) and scheme.lower() == b"basic"

    async def _query(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        """Read a query, execute it unless the client goes away, and answer."""
        body = await _read(receive)
        if body is None:
            await _refuse(send, 413, f"the query: got more than {_BODY_LIMIT} bytes")
            return
        try:
            request = json.loads(body)
            text, variables = request["query"], request.get("variables")
            operation = request.get("operationName")
            text.encode()  # half a code point, as JSON can write it, is no text
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(text, str):
            await _refuse(send, 400, 'the body: expected {"query": "..."}')
            return
        TRACE.set(headers.get(b"traceparent", b"").decode("latin-1"))
        response: dict[str, Any] | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            response = await self._answer(text, variables, operation)
            tasks.cancel_scope.cancel()
        if response is not None:
            await _respond(send, 200, response)

    async def _answer(self, text: str, variables: object, operation: object) -> dict[str, Any]:
        """The response; what nobody foresaw is logged, and told in one line."""
        try:
            return await self._queries.execute(
                text,
                self._context,
                variables=variables if isinstance(variables, dict) else None,
                operation=operation if isinstance(operation, str) else None,
            )
        except Exception as error:  # noqa: BLE001 - a client gets one error, never a traceback
            log_crash(error)
            message = f"internal error of the engine: {type(error).__name__}: {error}"
            return {"data": None, "errors": [{"message": message}]}


class _Quiet(uvicorn.Server):
    """A server that leaves signals to its owner, and says when it is ready and when it ended."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self.stopping = anyio.Event()
        self.ended = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            await super().serve(sockets)
        finally:
            self.ended.set()

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second."""
        await self.stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.ready.set()


async def _read(receive: Receive) -> bytes | None:
    """The request's body; None where it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _BODY_LIMIT:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the scope when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _is_local(headers: dict[bytes, bytes]) -> bool:
    """Asked of this machine by its own name, and not by a page of some site.

    A browser can be made to ask 127.0.0.1, also under a name of the page's own (DNS rebinding);
    it then says so in these two headers.
    """
    host = headers.get(b"host", b"").lower().rpartition(b":")
    origin = headers.get(b"origin")
    return (host[0] if host[1] and host[2].isdigit() else host[2]) in _HOSTS and origin is None


async def _refuse(send: Send, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    """Send one error, and take nothing more from the connection."""
    closing = [*headers, (b"connection", b"close")]
    await _respond(send, status, {"errors": [{"message": message}]}, closing)


async def _respond(
    send: Send, status: int, content: object, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send JSON."""
    body = json.dumps(content, separators=(",", ":")).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *(headers or []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
