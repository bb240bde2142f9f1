"""What a recipe is: the references it can stand in for, what it builds, and the image's config."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ci.engine.images.oci import canonical_json, sha256
from ci.engine.images.reference import DOCKER_HUB, Reference

if TYPE_CHECKING:
    from ci.engine.bootstrap.builder import Builder

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build one stand-in. Building the same recipe again gives the same files."""

    #: Of the recipe, for messages and keys.
    name: str
    #: Goes up with every change of what ``build`` makes.
    revision: int
    #: ``repository:tag`` patterns (fnmatch), Docker Hub's without registry and ``library/``.
    references: tuple[str, ...]
    #: What it gives, as a person reads it after "stand-in: ".
    gives: str
    #: Fills the builder's layer.
    build: Callable[[Builder], Awaitable[None]]
    #: The ``config`` object of the OCI image configuration, as the real image has it.
    config: Mapping[str, Any] = field(default_factory=dict)
    #: The recipe whose layers lie below.
    base: Recipe | None = None
    #: Go's names of the architectures that it can be built for.
    architectures: tuple[str, ...] = ("amd64", "arm64")

    def stands_in_for(self, reference: Reference) -> bool:
        """Whether it may be used in place of that image. Never for a digest: that is exact."""
        if reference.digest:
            return False
        repository = reference.repository
        if reference.registry == DOCKER_HUB:
            repository = repository.removeprefix("library/")
        else:
            repository = f"{reference.registry}/{repository}"
        text = f"{repository}:{reference.tag}"
        return any(fnmatchcase(text, pattern) for pattern in self.references)

    def key(self, architecture: str) -> str:
        """Of its result in the store."""
        facts = {
            "name": self.name,
            "revision": self.revision,
            "architecture": architecture,
            "config": self.config,
            "base": self.base.key(architecture) if self.base else "",
        }
        return sha256(canonical_json(facts))

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.name):
            raise ValueError(self.name)
