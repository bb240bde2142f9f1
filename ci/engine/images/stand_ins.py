"""Stand-ins: what may be used where no source has an image. ``ci.engine.bootstrap`` makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ci.engine.images.reference import Reference
from ci.engine.store.layers import Snapshot

__all__ = ["StandIn", "StandIns"]


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What can be made in place of an image."""

    #: For a person to read.
    gives: str
    #: Of what is made: another version of it has another.
    key: str
    #: The ``config`` object of the OCI image configuration.
    config: Mapping[str, Any]
    #: Its layers, made now unless the store has them; ``refresh`` makes them again.
    build: Callable[[bool], Awaitable[Snapshot]]


#: By the image's name and Go's name of the architecture; None where there is none.
StandIns = Callable[[Reference, str], StandIn | None]
