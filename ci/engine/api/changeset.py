"""Fields of Changeset and DiffStat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anyio import from_thread

from ci.engine.api.context import Context
from ci.engine.api.host import absolute
from ci.engine.api.values import Changeset, DiffStat
from ci.engine.delta import Delta, Pair
from ci.engine.edits import Applied, DiffText
from ci.engine.git import patch
from ci.engine.refusal import Refusal, Unsupported
from ci.engine.vertex import Copy, Diff, DirectoryRef, FileRef

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

#: Ways to settle a conflict that need no merge of texts.
_FAILING = ("FAIL", "FAIL_EARLY")
_NAMED_CONFLICTS = 5


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
    """These changes and others, of which none is about the same file."""
    return await _merged(ours, [ctx.get(changes, Changeset)], ctx, on_conflict)


async def with_changesets(
    ours: Changeset, ctx: Context, *, changes: Sequence[str], on_conflict: str
) -> Changeset:
    """These changes and several others, of which no two are about the same file."""
    others = [ctx.get(other, Changeset) for other in changes]
    return await _merged(ours, others, ctx, on_conflict)


async def _merged(
    ours: Changeset, others: Sequence[Changeset], ctx: Context, on_conflict: str
) -> Changeset:
    """One after the other on what they were all made from."""
    merged = ours
    for theirs in others:
        conflicts = _conflicts(await _delta(merged, ctx), await _delta(theirs, ctx))
        if conflicts:
            _refuse(conflicts, on_conflict)
        base = merged.before
        if theirs.before != base:
            joined = Copy(tree=base.tree, path=base.path, source=theirs.before)
            base = DirectoryRef(tree=joined, path=base.path)
        result = base
        for one in (merged, theirs):
            applied = Applied(
                tree=result.tree, path=result.path, before=one.before, after=one.after
            )
            result = DirectoryRef(tree=applied, path=result.path)
        merged = Changeset(before=base, after=result)
    return merged


def _conflicts(ours: Delta, theirs: Delta) -> list[str]:
    """Files that both are about."""
    mine, others = (
        {path for path in (*d.added, *d.modified, *d.all_removed) if not path.endswith("/")}
        for d in (ours, theirs)
    )
    both_removed = set(ours.all_removed) & set(theirs.all_removed)
    return sorted((mine & others) - both_removed)


def _refuse(conflicts: Sequence[str], on_conflict: str) -> None:
    """Say which files are in conflict."""
    if on_conflict not in _FAILING:
        raise Unsupported(f"Changeset.withChangeset(onConflict: {on_conflict})")
    named = ", ".join(conflicts[:_NAMED_CONFLICTS])
    rest = len(conflicts) - _NAMED_CONFLICTS
    raise Refusal(
        "changesets",
        got="changes of both to " + named + (f" and {rest} more" if rest > 0 else ""),
        expected="changes to different files",
    )


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
