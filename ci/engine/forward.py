"""Forwards ports of the host's loopback to ports of a session's network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import anyio
import structlog
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream

from ci.engine.network import Network
from ci.errors import CiError

__all__ = ["forwarding"]

_log = structlog.get_logger()


@asynccontextmanager
async def forwarding(
    network: Network, ports: Sequence[tuple[int, int]]
) -> AsyncIterator[list[tuple[int, int]]]:
    """While the context lasts, each (backend, frontend) is forwarded; frontend 0 is any free one.

    Gives the pairs with the frontends that were taken.

    Raises:
        CiError: a frontend is taken.
    """
    taken: list[tuple[int, int]] = []
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        for backend, frontend in ports:
            listener = await stack.enter_async_context(await _listen(frontend))
            port = listener.extra(SocketAttribute.local_port)  # noqa: S610
            taken.append((backend, port))
            _log.info("port.forwarded", frontend=port, backend=backend)
            tasks.start_soon(listener.serve, partial(_join, network, backend))
        yield taken


async def _listen(port: int) -> Listener[SocketStream]:
    """A listener at a port of the host's loopback.

    Raises:
        CiError: the port is taken.
    """
    try:
        return await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    except OSError as error:
        raise CiError(
            f"port {port} of this machine",
            got=error.strerror or str(error),
            expected="a free port",
            hint="choose another frontend port, or a random one",
        ) from None


async def _join(network: Network, backend: int, client: SocketStream) -> None:
    """Copy both ways between a client and the port."""
    async with client:
        try:
            server = await network.connect(backend)
        except OSError:
            return
        async with server, anyio.create_task_group() as tasks:
            tasks.start_soon(_pump, client, server)
            await _pump(server, client)
            tasks.cancel_scope.cancel()


async def _pump(source: ByteStream, sink: ByteStream) -> None:
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for piece in source:
            await sink.send(piece)
        await sink.send_eof()
