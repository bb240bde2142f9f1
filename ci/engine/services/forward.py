"""Forwards ports of the host's loopback to ports of a session's network."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import anyio
import structlog
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream

from ci.engine.services.network import Network
from ci.errors import CiError

__all__ = ["forwarding", "reaching_out"]

_log = structlog.get_logger()


@asynccontextmanager
async def forwarding(
    network: Network, host: str, ports: Sequence[tuple[int, int]]
) -> AsyncIterator[list[tuple[int, int]]]:
    """While the context lasts, each (backend, frontend) is forwarded; frontend 0 is any free one.

    Backends are ports of ``host``, an address of the network.

    Gives the pairs with the frontends that were taken.

    Raises:
        CiError: a frontend is taken.
    """
    async with AsyncExitStack() as stack:
        listeners = [
            (backend, await stack.enter_async_context(await _listen(frontend)))
            for backend, frontend in ports
        ]
        # Entered last, so that it has ended when the listeners are closed.
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        taken: list[tuple[int, int]] = []
        for backend, listener in listeners:
            port = listener.extra(SocketAttribute.local_port)  # noqa: S610
            taken.append((backend, port))
            _log.info("port.forwarded", frontend=port, backend=backend)
            tasks.start_soon(listener.serve, partial(_join, network, host, backend))
        yield taken


@asynccontextmanager
async def reaching_out(
    network: Network, address: str, host: str, ports: Sequence[tuple[int, int]]
) -> AsyncIterator[None]:
    """While the context lasts, ports of the network lead to ports of ``host``.

    ``ports`` are (port at the host, port at ``address`` in the network).

    Raises:
        OSError: a port of the network is taken.
    """

    async def handle(raw: socket.socket, backend: int) -> None:
        client = await SocketStream.from_socket(raw)
        async with client:
            with suppress(OSError):
                await _pipe(client, await anyio.connect_tcp(host, backend))

    async def accept(listener: socket.socket, backend: int) -> None:
        with listener:
            while True:
                await anyio.wait_readable(listener)
                with suppress(BlockingIOError, ConnectionError):
                    raw, _ = listener.accept()
                    raw.settimeout(0)
                    tasks.start_soon(handle, raw, backend)

    async with anyio.create_task_group() as tasks:
        for backend, port in ports:
            listener = await network.listener(port, address)
            listener.settimeout(0)
            tasks.start_soon(accept, listener, backend)
        yield
        tasks.cancel_scope.cancel()


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


async def _join(network: Network, host: str, backend: int, client: SocketStream) -> None:
    """Copy both ways between a client and the port."""
    async with client:
        try:
            server = await network.connect(backend, host)
        except OSError:
            return
        await _pipe(client, server)


async def _pipe(client: ByteStream, server: SocketStream) -> None:
    """Copy both ways until the server has ended."""
    async with server, anyio.create_task_group() as tasks:
        tasks.start_soon(_pump, client, server)
        await _pump(server, client)
        tasks.cancel_scope.cancel()


async def _pump(source: ByteStream, sink: ByteStream) -> None:
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for piece in source:
            await sink.send(piece)
        await sink.send_eof()
