"""What is at a path of a tree: shared by Container, Directory and File."""

from __future__ import annotations

import posixpath

from ci.engine.api.context import Context
from ci.engine.api.values import Stat
from ci.engine.refusal import Refusal
from ci.engine.trees.merged import Kind
from ci.engine.vertices.vertex import DirectoryRef, FileRef

__all__ = ["is_there", "stat_of"]

_EXPECTED: dict[str, Kind] = {
    "REGULAR_TYPE": "file",
    "DIRECTORY_TYPE": "directory",
    "SYMLINK_TYPE": "symlink",
}

_FILE_TYPES: dict[Kind, str] = {
    "file": "REGULAR",
    "directory": "DIRECTORY",
    "symlink": "SYMLINK",
    "other": "UNKNOWN",
}


async def is_there(
    ctx: Context,
    ref: DirectoryRef | FileRef,
    *,
    follow: bool,
    expected_type: str | None = None,
) -> bool:
    """Something is at the path, and of that type; a link is looked for where one is expected."""
    found = await ctx.solver.stat(ref, follow=follow and expected_type != "SYMLINK_TYPE")
    if found is None:
        return False
    return expected_type is None or found.kind == _EXPECTED[expected_type]


async def stat_of(ctx: Context, ref: DirectoryRef | FileRef, *, follow: bool) -> Stat:
    """What is at the path.

    Raises:
        Refusal: nothing is.
    """
    found = await ctx.solver.stat(ref, follow=follow)
    if found is None:
        raise Refusal(f"{ref.path}: no such file or directory")
    return Stat(
        name=posixpath.basename(ref.path),
        size=found.size,
        permissions=found.mode,
        file_type=_FILE_TYPES[found.kind],
    )
