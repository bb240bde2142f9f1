"""Tunnels: services served on the host's loopback for as long as somebody wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ci.engine.services.forward import forwarding
from ci.engine.services.services import Services
from ci.engine.vertices.vertex import ServiceSpec

__all__ = ["Tunnels"]

Forwards = tuple[tuple[int, int], ...]


@dataclass(eq=False)
class _Tunnel:
    #: (backend, frontend), as they were taken.
    taken: list[tuple[int, int]]
    closing: anyio.Event = field(default_factory=anyio.Event)
    closed: anyio.Event = field(default_factory=anyio.Event)


class Tunnels:
    """The tunnels of a session. An async context manager: all are closed at its end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open: dict[str, _Tunnel] = {}
        self._opening = anyio.Lock()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._tasks is not None  # noqa: S101 - it was entered
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def open(self, name: str, spec: ServiceSpec, forwards: Forwards) -> None:
        """Open the tunnel of that name unless it is, once the service is healthy.

        Raises:
            CiError: the service failed, or a port of the host is taken.
        """
        assert self._tasks is not None  # noqa: S101 - used within the context
        address = await self._services.start(spec)
        async with self._opening:
            if name not in self._open:
                self._open[name] = await self._tasks.start(self._keep, name, address, forwards)

    async def close(self, name: str) -> None:
        """Close the tunnel of that name, if it is open."""
        if tunnel := self._open.get(name):
            tunnel.closing.set()
            await tunnel.closed.wait()

    def taken(self, name: str) -> list[tuple[int, int]]:
        """(backend, frontend) of a tunnel; none where it is not open."""
        tunnel = self._open.get(name)
        return tunnel.taken if tunnel else []

    async def _keep(
        self, name: str, address: str, forwards: Forwards, *, task_status: TaskStatus[_Tunnel]
    ) -> None:
        """Hold a tunnel open."""
        network = await self._services.network()
        async with forwarding(network, address, forwards) as taken:
            tunnel = _Tunnel(taken)
            task_status.started(tunnel)
            await tunnel.closing.wait()
            del self._open[name]
        tunnel.closed.set()
