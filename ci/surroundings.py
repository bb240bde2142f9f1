"""What a run may use of where it was started: the terminal, this machine, a place for reports.

On a Dagger engine there is nothing of it. ``ci`` enters a fuller one around the same functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import dagger

from ci.config import Environment
from ci.deploy.protocol import Smoke
from ci.events import Feed, Sink
from ci.flow import Run, Stop
from ci.records.run import EngineRecord, ImageRecord
from ci.values import DeliveryRecord

__all__ = ["Deliverer", "Surroundings", "current", "entered"]


class Deliverer(Protocol):
    """Delivers images to local environments; see ``ci.host``."""

    async def deliver(
        self,
        project: str,
        name: str,
        environment: Environment,
        image: dagger.Container,
        *,
        version: str,
        commit: str = "",
        smoke: Smoke | None = None,
    ) -> DeliveryRecord:
        """Deliver ``image`` to an environment; what stands against it is in the record."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All that a run is given beside its arguments."""

    engine: EngineRecord = field(default_factory=lambda: EngineRecord(kind="dagger"))
    #: Images that the engine has used so far.
    images: Callable[[], Sequence[ImageRecord]] = tuple
    sinks: Sequence[Sink] = ()
    feed: Feed | None = None
    stop: Stop | None = None
    #: Where local environments are delivered to; None: they cannot be reached.
    host: Deliverer | None = None
    #: The source's folder on this machine; None: there is none.
    folder: Path | None = None
    #: Called with each run that ended, to write its record and reports.
    keep: Callable[[Run], Awaitable[None]] | None = None


_NOTHING = Surroundings()
_CURRENT: ContextVar[Surroundings] = ContextVar("surroundings", default=_NOTHING)


def current() -> Surroundings:
    """Those of the innermost ``entered``."""
    return _CURRENT.get()


@contextmanager
def entered(surroundings: Surroundings) -> Iterator[None]:
    """Within the context, runs have these."""
    token = _CURRENT.set(surroundings)
    try:
        yield
    finally:
        _CURRENT.reset(token)
