"""Context: what resolvers work with, one for a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ci.engine.ids import Objects
from ci.engine.vertices.vertex import Owner, Vertex

if TYPE_CHECKING:
    from ci.engine.pulls import Pulls
    from ci.engine.services.services import Services
    from ci.engine.services.tunnels import Tunnels
    from ci.engine.solver.secrets import Secrets
    from ci.engine.solver.solver import Solver
    from ci.engine.terminal import Terminal

__all__ = ["Context", "owner"]

V = TypeVar("V", bound=Vertex)


@dataclass(kw_only=True)
class Context:
    """The parts of a session that the API reaches."""

    solver: Solver
    secrets: Secrets
    services: Services
    tunnels: Tunnels
    images: Pulls
    terminal: Terminal
    platform: str
    #: Relative host paths start here.
    workdir: Path
    #: Makes an empty folder that is removed at the session's end.
    temporary: Callable[[], Path]
    version: str
    objects: Objects = field(default_factory=Objects)
    #: Distinguishes reads of the host that must not be shared.
    reads: int = 0

    def get(self, name: str, kind: type[V]) -> V:
        """The object of an ID that must be of that class."""
        return self.objects.get(name, kind)

    def nonce(self) -> str:
        """Another one at each call."""
        self.reads += 1
        return str(self.reads)


def owner(spec: str) -> Owner | None:
    """``user[:group]``, or None where none is given."""
    return Owner(spec=spec) if spec else None
