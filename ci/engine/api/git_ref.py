"""Fields of GitRef."""

from __future__ import annotations

from dataclasses import replace

from ci.engine.api.context import Context
from ci.engine.git.repository import GitRef, GitTree
from ci.engine.vertices.vertex import DirectoryRef, Without

__all__ = ["commit", "common_ancestor", "ref", "tree"]


def commit(at: GitRef, _: Context) -> str:
    """The commit's ID."""
    return at.commit


def ref(at: GitRef, _: Context) -> str:
    """Its whole name; the commit's ID where it has none."""
    return at.name or at.commit


async def common_ancestor(at: GitRef, ctx: Context, *, other: str) -> GitRef:
    """The best commit that both have in their history."""
    found = await ctx.solver.repositories.common_ancestor(at, ctx.get(other, GitRef))
    return replace(at, name="", commit=found)


async def tree(
    at: GitRef, ctx: Context, *, discard_git_dir: bool, depth: int, include_tags: bool
) -> DirectoryRef:
    """The files of the commit, with so many commits of history."""
    names: tuple[tuple[str, str], ...] = ()
    if include_tags:
        listed = (await ctx.solver.repositories.refs(at.repository)).listed
        names = tuple(p for p in listed if p[0].startswith("refs/tags/") and p[0][-1] != "}")
    found = GitTree(ref=at, depth=max(0, depth), tags=names)
    if discard_git_dir or not at.repository.keep_git_dir:
        return DirectoryRef(tree=Without(tree=found, paths=("/.git",)))
    return DirectoryRef(tree=found)
