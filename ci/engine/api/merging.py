"""Merging changesets: what both changed is merged as ``git merge`` does it."""

from __future__ import annotations

from collections.abc import Sequence

from ci.engine.api.context import Context
from ci.engine.api.values import Changeset
from ci.engine.git import patch
from ci.engine.refusal import Refusal
from ci.engine.trees.delta import Delta
from ci.engine.vertices.container import join
from ci.engine.vertices.edits import Applied
from ci.engine.vertices.vertex import Copy, DirectoryRef, FileRef, NewFile, Tree, Without

__all__ = ["merge"]

_FAVOURED = {"PREFER_OURS": "ours", "PREFER_THEIRS": "theirs"}
_LEAVE = "LEAVE_CONFLICT_MARKERS"
_NAMED_CONFLICTS = 5


async def merge(
    ours: Changeset,
    theirs: Changeset,
    our_delta: Delta,
    their_delta: Delta,
    ctx: Context,
    on_conflict: str,
) -> Changeset:
    """Both changes, on what they were made from.

    Raises:
        Refusal: they are in conflict, and ``on_conflict`` settles it in no way.
    """
    base = ours.before
    if theirs.before != base:
        joined = Copy(tree=base.tree, path=base.path, source=theirs.before)
        base = DirectoryRef(tree=joined, path=base.path)
    tree = base.tree
    for one in (ours, theirs):
        tree = Applied(tree=tree, path=base.path, before=one.before, after=one.after)
    shared = _shared(our_delta, their_delta)
    if shared and on_conflict == "FAIL_EARLY":
        raise _conflict(shared)
    unsettled = []
    for path in shared:
        settled = await _settle(ours, theirs, path, ctx, on_conflict)
        if settled is None:
            unsettled.append(path)
        else:
            tree = _put(tree, join(base.path, path), settled)
    if unsettled:
        raise _conflict(unsettled)
    return Changeset(before=base, after=DirectoryRef(tree=tree, path=base.path))


def _shared(ours: Delta, theirs: Delta) -> list[str]:
    """Files that both are about, but for those that both removed."""
    mine, others = (
        {path for path in (*d.added, *d.modified, *d.all_removed) if not path.endswith("/")}
        for d in (ours, theirs)
    )
    return sorted((mine & others) - (set(ours.all_removed) & set(theirs.all_removed)))


#: A file to copy, the text of one with its permissions, or nothing: it is removed.
_Settled = FileRef | tuple[bytes, int] | str


async def _settle(
    ours: Changeset, theirs: Changeset, path: str, ctx: Context, on_conflict: str
) -> _Settled | None:
    """What becomes of a file that both are about; None where that is a conflict."""
    files = [_file(side, path) for side in (ours.after, theirs.after)]
    found = [await ctx.solver.stat(file, follow=False) for file in files]
    favour = _FAVOURED.get(on_conflict, "")
    chosen = files[favour == "theirs"] if found[favour == "theirs"] is not None else ""
    if None in found:
        if on_conflict == _LEAVE:
            return files[found[0] is None]
        return chosen if favour else None
    if all(one is not None and one.kind == "file" for one in found):
        first, second = [await ctx.solver.read(file) for file in files]
        base = await _content(_file(ours.before, path), ctx)
        text = first
        if first != second:
            merged = await patch.merge(
                first, base, second, ctx.temporary(), favour=favour, markers=on_conflict == _LEAVE
            )
            if merged is None:
                return chosen if favour else None
            text = merged
        assert found[0] is not None  # noqa: S101 - looked at above
        return text, found[0].mode
    return chosen if favour else None


async def _content(file: FileRef, ctx: Context) -> bytes:
    """Of a file, or nothing where there is none."""
    found = await ctx.solver.stat(file, follow=False)
    return await ctx.solver.read(file) if found is not None and found.kind == "file" else b""


def _file(directory: DirectoryRef, path: str) -> FileRef:
    return FileRef(tree=directory.tree, path=join(directory.path, path))


def _put(tree: Tree, path: str, settled: _Settled) -> Tree:
    """The tree with what was settled on at a path."""
    if isinstance(settled, FileRef):
        return Copy(tree=Without(tree=tree, paths=(path,)), path=path, source=settled)
    if isinstance(settled, tuple):
        return NewFile(tree=tree, path=path, contents=settled[0], permissions=settled[1])
    return Without(tree=tree, paths=(path,))


def _conflict(paths: Sequence[str]) -> Refusal:
    """Says which files are in conflict."""
    rest = len(paths) - _NAMED_CONFLICTS
    named = ", ".join(paths[:_NAMED_CONFLICTS]) + (f" and {rest} more" if rest > 0 else "")
    return Refusal(
        "changesets",
        got=f"conflicting changes of {named}",
        expected="changes that can be merged, or onConflict to settle them",
    )
