"""Edits: vertices that change a tree where it stands, each by one layer on top.

Nothing here does I/O; ``editor.py`` makes the layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.vertices.vertex import Built, DirectoryRef, FileRef, Owner, Tree

__all__ = ["Applied", "Chown", "DiffText", "Edit", "Patched", "Timestamps"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit(Built):
    """``tree`` with something at ``path`` (absolute) changed."""

    path: str

    def sources(self) -> tuple[DirectoryRef | FileRef, ...]:
        """What it takes from other chains."""
        return tuple(p for p in self.inputs().values() if isinstance(p, DirectoryRef | FileRef))


@dataclass(frozen=True, kw_only=True, eq=False)
class Chown(Edit):
    """What is at ``path``, and all below it, belongs to ``owner``."""

    owner: Owner


@dataclass(frozen=True, kw_only=True, eq=False)
class Timestamps(Edit):
    """What is at ``path``, and all below it, was last changed at this time."""

    #: Seconds since the epoch.
    seconds: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied(Edit):
    """The directory at ``path`` with what differs between two others done to it too."""

    before: DirectoryRef
    after: DirectoryRef


@dataclass(frozen=True, kw_only=True, eq=False)
class Patched(Edit):
    """The directory at ``path`` with a patch in git's format applied."""

    patch: FileRef


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffText(Tree):
    """What makes ``upper`` of ``lower``, as the file ``/diff.patch`` in git's format."""

    lower: DirectoryRef
    upper: DirectoryRef
