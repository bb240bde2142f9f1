"""Forwards ports of the host's loopback to ports of a session's network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
import structlog
from anyio.abc import ByteStream, SocketAttribute, SocketStream

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
    async with anyio.create_task_group() as tasks:
        for backend, frontend in ports:
            try:
                listener = await anyio.create_tcp_listener(
                    local_host="127.0.0.1", local_port=frontend
                )
            except OSError as error:
                raise CiError(
                    f"port {frontend} of this machine",
                    got=error.strerror or str(error),
                    expected="a free port",
                    hint="choose another frontend port, or a random one",
                ) from None

            async def handle(client: SocketStream, backend: int = backend) -> None:
                await _join(network, client, backend)

            port = listener.extra(SocketAttribute.local_port)  # noqa: S610
            taken.append((backend, port))
            _log.info("port.forwarded", frontend=port, backend=backend)
            tasks.start_soon(listener.serve, handle)
        try:
            yield taken
        finally:
            tasks.cancel_scope.cancel()


async def _join(network: Network, client: SocketStream, backend: int) -> None:
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
