"""Fields of GitRepository."""

from __future__ import annotations

from collections.abc import Sequence

from ci.engine.api.context import Context
from ci.engine.api.values import Changeset
from ci.engine.git.refs import Ref, Refs, is_commit
from ci.engine.git.repository import GitClean, GitRef, GitRepository
from ci.engine.refusal import Refusal
from ci.engine.vertices.vertex import DirectoryRef, Scratch

__all__ = [
    "branch",
    "branches",
    "commit",
    "head",
    "latest_version",
    "ref",
    "tag",
    "tags",
    "uncommitted",
    "url",
]


async def _refs(repository: GitRepository, ctx: Context) -> Refs:
    return await ctx.solver.repositories.refs(repository)


def _found(repository: GitRepository, found: Ref) -> GitRef:
    return GitRef(repository=repository, name=found.name, commit=found.commit)


def url(repository: GitRepository, _: Context) -> str | None:
    """Of a remote one; null for a directory's."""
    return repository.url or None


async def ref(repository: GitRepository, ctx: Context, *, name: str) -> GitRef:
    """A commit by its ID, or by a name as ``git checkout`` takes it."""
    if is_commit(name):
        return _found(repository, Ref("", name))
    return _found(repository, (await _refs(repository, ctx)).find(name))


async def head(repository: GitRepository, ctx: Context) -> GitRef:
    """What is checked out where nothing else is asked for."""
    return await ref(repository, ctx, name="HEAD")


async def branch(repository: GitRepository, ctx: Context, *, name: str) -> GitRef:
    """A branch."""
    return await ref(repository, ctx, name=f"refs/heads/{name.removeprefix('refs/heads/')}")


async def tag(repository: GitRepository, ctx: Context, *, name: str) -> GitRef:
    """A tag."""
    return await ref(repository, ctx, name=f"refs/tags/{name.removeprefix('refs/tags/')}")


def commit(repository: GitRepository, _: Context, *, id: str) -> GitRef:  # noqa: A002
    """A commit by its whole ID; nothing is asked for it."""
    if not is_commit(id):
        raise Refusal("git commit", got=repr(id), expected="its whole ID, 40 hex digits")
    return _found(repository, Ref("", id))


async def latest_version(repository: GitRepository, ctx: Context) -> GitRef:
    """The tag of the highest version."""
    return _found(repository, (await _refs(repository, ctx)).latest_version())


async def branches(
    repository: GitRepository, ctx: Context, *, patterns: Sequence[str] | None = None
) -> list[str]:
    """Short names of the branches that match."""
    return (await _refs(repository, ctx)).branches(patterns or ())


async def tags(
    repository: GitRepository, ctx: Context, *, patterns: Sequence[str] | None = None
) -> list[str]:
    """Short names of the tags that match."""
    return (await _refs(repository, ctx)).tags(patterns or ())


async def uncommitted(repository: GitRepository, ctx: Context) -> Changeset:
    """What a directory has otherwise than its last commit; nothing for a remote one."""
    if repository.directory is None:
        empty = DirectoryRef(tree=Scratch())
        return Changeset(before=empty, after=empty)
    at = await head(repository, ctx)
    clean = GitClean(directory=repository.directory, commit=at.commit)
    return Changeset(before=DirectoryRef(tree=clean), after=repository.directory)
