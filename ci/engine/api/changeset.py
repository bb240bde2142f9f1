"""Fields of Changeset and DiffStat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anyio import from_thread

from ci.engine.api import merging
from ci.engine.api.context import Context
from ci.engine.api.host import absolute
from ci.engine.api.values import Changeset, DiffStat
from ci.engine.git import patch
from ci.engine.trees.delta import Delta, Pair
from ci.engine.vertices.edits import DiffText
from ci.engine.vertices.vertex import Diff, DirectoryRef, FileRef

__all__ = [
    "added_lines",
    "added_paths",
    "after",
    "as_patch",
    "before",
    "diff_stats",
    "export",
    "is_empty",
    "kind",
    "layer",
    "modified_paths",
    "old_path",
    "path",
    "removed_lines",
    "removed_paths",
    "sync",
    "with_changeset",
    "with_changesets",
]


async def _delta(changes: Changeset, ctx: Context) -> Delta:
    """Its paths, found once a session."""

    async def compare() -> Delta:
        return await ctx.solver.compare(changes.before, changes.after, Delta.of)

    return await ctx.solver.once(f"delta {changes.digest}", compare)


# -- reading -------------------------------------------------------------------------------------


def before(changes: Changeset, _: Context) -> DirectoryRef:
    """The directory that was compared with."""
    return changes.before


def after(changes: Changeset, _: Context) -> DirectoryRef:
    """The directory that was compared."""
    return changes.after


def layer(changes: Changeset, _: Context) -> DirectoryRef:
    """What is new or otherwise, as a directory of its own."""
    return DirectoryRef(tree=Diff(lower=changes.before, upper=changes.after))


def as_patch(changes: Changeset, _: Context) -> FileRef:
    """The changes as a patch in git's format."""
    return FileRef(tree=DiffText(lower=changes.before, upper=changes.after), path="/diff.patch")


async def added_paths(changes: Changeset, ctx: Context) -> tuple[str, ...]:
    """What is new; directories end with a slash."""
    return (await _delta(changes, ctx)).added


async def modified_paths(changes: Changeset, ctx: Context) -> tuple[str, ...]:
    """Files that are otherwise."""
    return (await _delta(changes, ctx)).modified


async def removed_paths(changes: Changeset, ctx: Context) -> tuple[str, ...]:
    """What is gone; of a directory, which ends with a slash, only itself."""
    return (await _delta(changes, ctx)).removed


async def is_empty(changes: Changeset, ctx: Context) -> bool:
    """No file changed."""
    return (await _delta(changes, ctx)).is_empty


async def sync(changes: Changeset, ctx: Context) -> str:
    """Its ID, once both directories have been evaluated."""
    await _delta(changes, ctx)
    return ctx.objects.id(changes)


async def export(changes: Changeset, ctx: Context, *, path: str) -> str:
    """Do the changes to a folder of the host; the path it has there."""
    place = absolute(ctx, path)
    await ctx.solver.remove_exported(place, await removed_paths(changes, ctx))
    await ctx.solver.export_directory(layer(changes, ctx), place)
    return str(place)


async def diff_stats(changes: Changeset, ctx: Context) -> list[DiffStat]:
    """Each path with the lines that were added and removed, by path."""
    delta = await _delta(changes, ctx)
    folder = ctx.temporary()

    def count(pairs: Iterable[Pair]) -> dict[str, tuple[int, int]]:
        return from_thread.run(patch.line_counts, list(pairs), folder)

    lines = await ctx.solver.compare(changes.before, changes.after, count)
    kinds = {"ADDED": delta.added, "MODIFIED": delta.modified, "REMOVED": delta.all_removed}
    stats = [
        DiffStat(path=path, kind=kind, added_lines=counts[0], removed_lines=counts[1])
        for kind, paths in kinds.items()
        for path in paths
        for counts in [lines.get(path, (0, 0))]
    ]
    return sorted(stats, key=lambda stat: stat.path)


# -- merging -------------------------------------------------------------------------------------


async def with_changeset(
    ours: Changeset, ctx: Context, *, changes: str, on_conflict: str
) -> Changeset:
    """These changes and others; texts that both changed are merged as git merges them."""
    return await _merged(ours, [ctx.get(changes, Changeset)], ctx, on_conflict)


async def with_changesets(
    ours: Changeset, ctx: Context, *, changes: Sequence[str], on_conflict: str
) -> Changeset:
    """These changes and several others, one after the other."""
    others = [ctx.get(other, Changeset) for other in changes]
    return await _merged(ours, others, ctx, on_conflict)


async def _merged(
    ours: Changeset, others: Sequence[Changeset], ctx: Context, on_conflict: str
) -> Changeset:
    for theirs in others:
        ours = await merging.merge(
            ours, theirs, await _delta(ours, ctx), await _delta(theirs, ctx), ctx, on_conflict
        )
    return ours


# -- statistics ----------------------------------------------------------------------------------


def path(stat: DiffStat, _: Context) -> str:
    """Of the file or directory."""
    return stat.path


def old_path(_stat: DiffStat, _: Context) -> None:
    """Of a file that was renamed: it is shown as removed and added."""


def kind(stat: DiffStat, _: Context) -> str:
    """ADDED, MODIFIED or REMOVED."""
    return stat.kind


def added_lines(stat: DiffStat, _: Context) -> int:
    """Lines that are new."""
    return stat.added_lines


def removed_lines(stat: DiffStat, _: Context) -> int:
    """Lines that are gone."""
    return stat.removed_lines
