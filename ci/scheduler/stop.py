"""Stopping a run from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["INTERRUPTED", "Stop"]

INTERRUPTED = "the run was interrupted"


@dataclass
class Stop:
    """Asks a run to stop: what runs is interrupted, clean-up is done, and the run returns.

    It may be called before the run begins, and more than once; the first reason stands.
    To be called in the run's event loop.
    """

    reason: str = ""
    _listeners: list[Callable[[str], None]] = field(default_factory=list)

    def __call__(self, reason: str = INTERRUPTED) -> None:
        """Stop, for this reason."""
        if not self.reason:
            self.reason = reason
            for listener in self._listeners:
                listener(reason)

    def notify(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the reason when the run is to stop, or now if it is already."""
        self._listeners.append(listener)
        if self.reason:
            listener(self.reason)
