"""Where images may come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

from ci.engine.images.reference import Reference

__all__ = ["Source", "Sources"]

Source = Literal["store", "registry", "bootstrap"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is asked for images, and who stands in for whom."""

    #: What to ask, one after the other.
    order: tuple[Source, ...] = get_args(Source)
    #: Patterns of images that nothing may stand in for: ``python:*``.
    no_stand_in_for: tuple[str, ...] = ()
    #: By registry, what to ask before it.
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: What stand-ins are built from; empty: the mirror of the machine's own apt.
    debian_mirror: str = ""

    def may_stand_in(self, reference: Reference) -> bool:
        """Whether a recipe may stand in for that image."""
        return not any(fnmatchcase(reference.familiar, pattern) for pattern in self.no_stand_in_for)
