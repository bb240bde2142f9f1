"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

EPOCH = datetime(2026, 1, 31, 14, 25, 30, tzinfo=UTC)


class FakeClock:
    """``sleep`` returns once ``advance`` has moved past its end; ``slept`` lists what was asked.

    With ``instant`` every sleep moves the clock by itself and returns at once.
    """

    def __init__(self, *, instant: bool = False) -> None:
        self.slept: list[float] = []
        self._instant = instant
        self._seconds = 0.0
        self._sleepers: list[tuple[float, anyio.Event]] = []
        self._changed = anyio.Event()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._instant:
            self._seconds += seconds
            await anyio.lowlevel.checkpoint()
            return
        sleeper = (self._seconds + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        self._changed.set()
        self._changed = anyio.Event()
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    async def wait_sleeping(self, count: int = 1) -> None:
        """Return when that many sleep."""
        while len(self._sleepers) < count:
            await self._changed.wait()

    async def wait_sleeping_until(self, seconds: float) -> None:
        """Return when one sleeps whose time comes then."""
        while all(end != seconds for end, _ in self._sleepers):
            await self._changed.wait()

    def advance(self, seconds: float) -> None:
        """Move on, and wake those whose time has come."""
        self._seconds += seconds
        for end, event in self._sleepers:
            if end <= self._seconds:
                event.set()
