"""Fields of Directory: comparing, searching, and edits of a whole tree."""

from __future__ import annotations

from ci.engine.api.context import Context
from ci.engine.api.directory import directory
from ci.engine.api.values import Changeset, SearchResult, SearchSubmatch
from ci.engine.git.repository import GitRepository
from ci.engine.trees.matching import Match
from ci.engine.trees.search import Search
from ci.engine.vertices.edits import Applied, Chown, Patched, Timestamps
from ci.engine.vertices.vertex import DirectoryRef, FileRef, NewFile, Owner, Scratch, Tree

__all__ = [
    "as_git",
    "changes",
    "chown",
    "search",
    "with_changes",
    "with_patch",
    "with_patch_file",
    "with_timestamps",
]


def _with(source: DirectoryRef, tree: Tree) -> DirectoryRef:
    return DirectoryRef(tree=tree, path=source.path)


def as_git(source: DirectoryRef, _: Context) -> GitRepository:
    """The repository that the directory holds."""
    return GitRepository(directory=source)


def changes(source: DirectoryRef, ctx: Context, *, from_: str) -> Changeset:
    """What differs from an older directory."""
    return Changeset(before=ctx.get(from_, DirectoryRef), after=source)


def with_changes(source: DirectoryRef, ctx: Context, *, changes: str) -> DirectoryRef:
    """The same changes done to this directory."""
    done = ctx.get(changes, Changeset)
    applied = Applied(tree=source.tree, path=source.path, before=done.before, after=done.after)
    return _with(source, applied)


def with_patch(source: DirectoryRef, _: Context, *, patch: str) -> DirectoryRef:
    """A patch in git's format applied."""
    name = "/diff.patch"
    file = FileRef(tree=NewFile(tree=Scratch(), path=name, contents=patch.encode()), path=name)
    return _with(source, Patched(tree=source.tree, path=source.path, patch=file))


def with_patch_file(source: DirectoryRef, ctx: Context, *, patch: str) -> DirectoryRef:
    """The patch in a file applied."""
    file = ctx.get(patch, FileRef)
    return _with(source, Patched(tree=source.tree, path=source.path, patch=file))


def with_timestamps(source: DirectoryRef, _: Context, *, timestamp: int) -> DirectoryRef:
    """All of it last changed at this time, in seconds since the epoch."""
    return _with(source, Timestamps(tree=source.tree, path=source.path, seconds=timestamp))


def chown(source: DirectoryRef, ctx: Context, *, path: str, owner: str) -> DirectoryRef:
    """What is at the path, and all below it, belongs to ``user[:group]``."""
    place = directory(source, ctx, path=path).path
    return _with(source, Chown(tree=source.tree, path=place, owner=Owner(spec=owner)))


async def search(
    source: DirectoryRef | FileRef,
    ctx: Context,
    *,
    pattern: str,
    limit: int | None = None,
    **options: bool | list[str],
) -> list[SearchResult]:
    """Lines that match, by path."""
    given = {name: tuple(o) if isinstance(o, list) else o for name, o in options.items()}
    wanted = Search(pattern=pattern, limit=limit, **given)  # type: ignore[arg-type]
    return [_result(match) for match in await ctx.solver.search(source, wanted)]


def _result(match: Match) -> SearchResult:
    return SearchResult(
        file_path=match.path,
        line_number=match.line,
        absolute_offset=match.offset,
        matched_lines=match.lines,
        submatches=tuple(
            SearchSubmatch(text=sub.text, start=sub.start, end=sub.end) for sub in match.submatches
        ),
    )
