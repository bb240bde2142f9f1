"""Time limits by an injected clock; one task watches over all of them."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio

from ci.clock import Clock

__all__ = ["Deadline", "Deadlines"]


@dataclass(slots=True)
class Deadline:
    """A limit on what runs within its scope; ``expired`` tells that it was hit."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    expired: bool = False
    over: bool = False


class Deadlines:
    """Cancels what runs longer than it may, as long as ``watching``.

    A task group and a sleep for each limit would cost as much as scheduling does.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._number = count()
        self._added = anyio.Event()
        self._nap: anyio.CancelScope | None = None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Limits hold within the context, also while it is being cancelled."""
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope(shield=True)
            group.start_soon(self._watch, scope)
            try:
                yield
            finally:
                scope.cancel()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[Deadline]:
        """What runs within the context is cancelled after that many seconds, and it ends."""
        deadline = Deadline()
        entry = (self._clock.monotonic() + seconds, next(self._number), deadline)
        heapq.heappush(self._heap, entry)
        self._added.set()
        if self._heap[0] is entry and self._nap is not None:
            self._nap.cancel()
        try:
            with deadline.scope:
                yield deadline
        finally:
            deadline.over = True

    async def _watch(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                while self._heap and self._heap[0][2].over:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._added = anyio.Event()
                    await self._added.wait()
                elif (left := self._heap[0][0] - self._clock.monotonic()) > 0:
                    with anyio.CancelScope() as self._nap:
                        await self._clock.sleep(left)
                    self._nap = None
                else:
                    deadline = heapq.heappop(self._heap)[2]
                    deadline.expired = True
                    deadline.scope.cancel()
