"""What is at a path of a tree: shared by Container, Directory and File."""

from __future__ import annotations

import posixpath
import stat

from ci.engine.api.context import Context
from ci.engine.api.values import Stat
from ci.engine.merged import Entry, Kind
from ci.engine.refusal import Refusal
from ci.engine.vertex import Tree

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
    ctx: Context, tree: Tree, path: str, *, follow: bool, expected_type: str | None = None
) -> bool:
    """Something is at the path, and of that type; a link is looked for where one is expected."""
    found: Entry | None = await ctx.solver.stat(
        tree, path, follow=follow and expected_type != "SYMLINK_TYPE"
    )
    if found is None:
        return False
    return expected_type is None or found.kind == _EXPECTED[expected_type]


async def stat_of(ctx: Context, tree: Tree, path: str, *, follow: bool) -> Stat:
    """What is at the path.

    Raises:
        Refusal: nothing is.
    """
    found: Entry | None = await ctx.solver.stat(tree, path, follow=follow)
    if found is None:
        raise Refusal(f"{path}: no such file or directory")
    return Stat(
        name=posixpath.basename(path),
        size=found.status.st_size,
        permissions=stat.S_IMODE(found.status.st_mode),
        file_type=_FILE_TYPES[found.kind],
    )
