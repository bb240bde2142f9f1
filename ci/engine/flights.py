"""Work that several ask for at once and that is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from ci.errors import CiError

__all__ = ["Flights", "gather"]

T = TypeVar("T")


async def gather(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """The results of all calls, in order. The first error cancels the rest and is raised bare."""
    if not calls:
        return []
    if len(calls) == 1:
        return [await calls[0]()]
    results: dict[int, T] = {}
    errors: list[Exception] = []

    async def one(place: int, call: Callable[[], Awaitable[T]]) -> None:
        try:
            results[place] = await call()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for place, call in enumerate(calls):
            group.start_soon(one, place, call)
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(calls))]


@dataclass(eq=False)
class _Flight:
    landed: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    waiting: int = 0
    finished: bool = False
    value: Any = None
    error: Exception | None = None


class Flights:
    """Runs work by name, once at a time, and remembers what came of it.

    Work that nobody waits for any more is cancelled. Errors are not remembered. The work runs in
    tasks of its own, for it serves whoever asks next, too: ``close`` ends them.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._aloft: dict[str, _Flight] = {}
        self._landed: dict[str, Any] = {}

    async def once(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``: remembered, awaited where it is under way, or made now.

        ``work`` runs in the context (contextvars) of the call that first asked.
        """
        if name in self._landed:
            known: T = self._landed[name]
            return known
        flight = self._aloft.get(name)
        if flight is None:
            flight = self._aloft[name] = _Flight()
            task = asyncio.create_task(self._fly(name, flight, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        flight.waiting += 1
        try:
            await flight.landed.wait()
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.landed.is_set():
                flight.scope.cancel()
                if self._aloft.get(name) is flight:
                    del self._aloft[name]
                with anyio.CancelScope(shield=True):
                    await flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        if not flight.finished:
            raise CiError("engine", got="the session is closing")
        value: T = flight.value
        return value

    async def _fly(self, name: str, flight: _Flight, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            with flight.scope:
                flight.value = await work()
                flight.finished = True
                self._landed[name] = flight.value
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            flight.error = error
        finally:
            if self._aloft.get(name) is flight:
                del self._aloft[name]
            flight.landed.set()

    async def close(self) -> None:
        """Cancel what is under way, and wait until it is over."""
        for flight in self._aloft.values():
            flight.scope.cancel()
        with anyio.CancelScope(shield=True):
            while self._tasks:
                await asyncio.wait(self._tasks)

    def known(self, name: str) -> Any:  # noqa: ANN401 - whatever the work gave
        """What is remembered under a name, or None."""
        return self._landed.get(name)

    def forget(self, name: str) -> None:
        """Make it anew when next asked for."""
        self._landed.pop(name, None)
