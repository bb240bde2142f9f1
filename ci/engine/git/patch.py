"""Patches in git's format: what differs between two directories, and applying one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ci.engine.git.program import Git, GitError
from ci.engine.trees.delta import Pair
from ci.engine.trees.merged import Entry
from ci.errors import CiError

__all__ = ["PatchError", "apply", "line_counts", "merge", "write"]

#: ``git diff`` ends with 1 where something differs.
_DIFFERS = (0, 1)


class PatchError(CiError):
    """A patch does not fit."""


async def write(pairs: Iterable[Pair], folder: Path, target: Path) -> None:
    """Write the patch that makes the new entries of the old ones. ``folder`` is empty.

    The paths of the patch are those of the pairs.
    """
    with target.open("wb") as out:
        if _stage(pairs, folder):
            await _diff(folder, "--binary", "--no-prefix", stdout=out)


async def line_counts(pairs: Iterable[Pair], folder: Path) -> dict[str, tuple[int, int]]:
    """Lines added and removed by path; a binary file has none. ``folder`` is empty."""
    if not _stage(pairs, folder):
        return {}
    fields = (await _diff(folder, "--numstat", "-z")).split(b"\0")
    counts: dict[str, tuple[int, int]] = {}
    while fields and fields[0]:
        added, removed, path = fields.pop(0).split(b"\t", 2)
        if not path:
            old, new = fields.pop(0), fields.pop(0)
            path = new if new != b"/dev/null" else old
        counts[os.fsdecode(path[len(b"a/") :])] = (
            (0, 0) if added == b"-" else (int(added), int(removed))
        )
    return counts


def _git(folder: Path) -> Git:
    """Git, which sees no repository above the folder."""
    return Git(environ=(("GIT_CEILING_DIRECTORIES", str(folder.parent)),))


async def _diff(folder: Path, *options: str, stdout: IO[bytes] | None = None) -> bytes:
    """``git diff`` of what is staged, with renames as removals and additions."""
    return await _git(folder).run(
        "diff", "--no-index", "--no-renames", "--no-ext-diff", "--no-textconv", *options, "a", "b",
        cwd=folder, codes=_DIFFERS, stdout=stdout,
    )  # fmt: skip


def _stage(pairs: Iterable[Pair], folder: Path) -> bool:
    """Put the old files into ``a`` and the new ones into ``b``; whether there are any."""
    any_file = False
    for side in ("a", "b"):
        (folder / side).mkdir()
    for path, old, new in pairs:
        for side, entry in (("a", old), ("b", new)):
            if entry is not None and entry.kind in ("file", "symlink"):
                any_file = True
                _place(entry, folder / side / path)
    return any_file


def _place(entry: Entry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(entry.host, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(entry.host, target, follow_symlinks=False)


async def apply(patch: bytes, folder: Path) -> None:
    """Apply a patch to the files of a folder, none of which is written to: changed ones are new.

    Raises:
        PatchError: it does not fit, or leaves the folder.
    """
    if not patch.strip():
        return
    try:
        await _git(folder).run("apply", "--whitespace=nowarn", "-", cwd=folder, stdin=patch)
    except CiError as error:
        if "no such program" in error.got:
            raise
        raise PatchError(
            "patch", got=error.got, expected="one that fits the directory, in git's format"
        ) from None


async def merge(
    ours: bytes,
    base: bytes,
    theirs: bytes,
    folder: Path,
    *,
    favour: str = "",
    markers: bool = False,
) -> bytes | None:
    """Two texts that were made of one, as one text; None where they are in conflict.

    ``favour`` (ours or theirs) decides where they are, or markers are left. ``folder`` is empty.
    """
    names = ("ours", "base", "theirs")
    for name, content in zip(names, (ours, base, theirs), strict=True):
        (folder / name).write_bytes(content)
    options = [f"--{favour}"] if favour else []
    most = 127 if markers else 0
    try:
        return await _git(folder).run(
            "merge-file", "-p", *options, *names, cwd=folder, codes=range(most + 1)
        )
    except GitError as error:
        if "no such program" in error.got:
            raise
        return None
