"""Connections: HTTP for the session's clients, and no way to hold it up for anybody else.

Every user of the machine can connect to a port on loopback. Who has not sent the head of a request
in time is cut off, and when too many are silent at once, the one that has been so for longest.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection"]

#: Seconds until the head of the first request must be there.
_PATIENCE = 10.0
#: Connections that may be silent at once: far below the files that a process may open.
_SILENT = 128


class Connection(H11Protocol):
    """One client's connection."""

    patience = _PATIENCE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, and note the time."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.patience, self._cut_off)
        self.since = self.loop.time()
        others = [each for each in self.connections if isinstance(each, Connection)]
        silent = [each for each in others if each.is_silent]
        if len(silent) > _SILENT:
            min(silent, key=lambda each: each.since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._timer.cancel()
        super().connection_lost(exc)

    @property
    def is_silent(self) -> bool:
        """It has asked nothing yet."""
        cycle: object | None = self.cycle  # uvicorn's annotation leaves the None out
        return cycle is None

    def _cut_off(self) -> None:
        if self.is_silent and not self.transport.is_closing():
            self.transport.abort()
