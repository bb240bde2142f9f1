"""Sockets of the host that belong to others in a container: sockets of ours that lead to them.

The host's own keep their owner and permissions, by which a container's user may have no access.
Whoever asks the kernel at the other end finds this process there. Descriptors are not passed on.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

__all__ = ["Sockets"]

_CHUNK = 1 << 16


class Sockets:
    """Those of one session, each for as long as the session lasts.

    Args:
        folder: Makes a new one, that others cannot reach.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._tasks = set[asyncio.Task[None]]()

    async def lead(self, host_path: str, owner: tuple[int, int]) -> str:
        """The path of a new socket, which ``owner`` alone may use."""
        folder = await anyio.to_thread.run_sync(self._folder)
        listener = await anyio.to_thread.run_sync(_bound, folder, owner)
        self._start(self._serve(listener, host_path), listener)
        return str(folder / _NAME)

    async def close(self) -> None:
        """Close all, and what goes through them."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, listener: socket.socket, host_path: str) -> None:
        while True:
            await anyio.wait_readable(listener)
            with suppress(BlockingIOError, ConnectionError):
                client, _ = listener.accept()
                client.settimeout(0)
                self._start(_join(client, host_path), client)

    def _start(self, work: Coroutine[None, None, None], own: socket.socket) -> None:
        """Have work done on a socket, which is closed in the end, also where it never began."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: own.close())


_NAME = "socket"


def _bound(folder: Path, owner: tuple[int, int]) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The path of a socket is 107 bytes at most.
        listener.bind(f"/proc/self/fd/{directory}/{_NAME}")
        os.chmod(_NAME, 0o600, dir_fd=directory)
        os.chown(_NAME, *owner, dir_fd=directory)
        listener.listen(128)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


async def _join(client: socket.socket, host_path: str) -> None:
    """Copy both ways until both have ended."""
    with suppress(OSError):
        theirs, ours = await asyncio.open_unix_connection(host_path)
        async with _closing(ours):
            reader, writer = await asyncio.open_unix_connection(sock=client)
            async with _closing(writer), anyio.create_task_group() as tasks:
                tasks.start_soon(_pump, reader, ours)
                tasks.start_soon(_pump, theirs, writer)


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close it once all is written; at once where the body is cancelled."""
    try:
        yield
        writer.close()
        await writer.wait_closed()
    except BaseException:
        writer.transport.abort()
        raise


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(_CHUNK):
            sink.write(piece)
            await sink.drain()
        sink.write_eof()
