"""Which commit a source is at, read from its .git folder: no git program is needed.

Whether it has changes that are not committed takes one: git's, on this machine or in the engine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import dagger
from dagger import dag

from ci.records.run import SourceRecord
from ci.repository import is_dirty
from ci.stages.history import GIT, History, history_of

__all__ = ["changed", "project_of", "revision_of"]


async def revision_of(source: dagger.Directory) -> SourceRecord:
    """Commit and branch, empty where the source is no git repository; the project's version."""
    version = (await project_of(source)).get("version", "")
    history = await history_of(source)
    if history is None:
        return SourceRecord(version=version)
    git = history.git
    head = (await git.file("HEAD").contents()).strip()
    if not head.startswith("ref: "):
        return SourceRecord(commit=head, version=version)
    reference = head.removeprefix("ref: ")
    branch = reference.removeprefix("refs/heads/")
    return SourceRecord(commit=await _commit(git, reference), branch=branch, version=version)


async def changed(
    source: dagger.Directory, ignored: Sequence[str], folder: Path | None = None
) -> bool | None:
    """Whether the source is otherwise than its commit; what git ignores does not count.

    None: it is of no repository, or nobody could tell.

    Args:
        source: With its history.
        ignored: What was never taken for a part of the source.
        folder: Where the source is on this machine, if it is there: git is asked there, with the
            user's configuration. Otherwise, and where git trusts no one but the folder's owner,
            the engine is, which goes by nobody's configuration.
    """
    history = await history_of(source)
    if history is None:
        return None
    if folder is not None and (told := await is_dirty(folder, ignored)) is not None:
        return told
    try:
        return await _differs(source.without_directory(GIT), history, ignored)
    except dagger.QueryError:
        return None


async def _differs(code: dagger.Directory, history: History, ignored: Sequence[str]) -> bool:
    """Whether the code is otherwise than what a clean working tree would have in its place."""
    at = history.folder or "."
    tree = dag.directory().with_directory(at, code).with_directory(GIT, history.git)
    clean = tree.as_git().uncommitted().before()
    if history.folder and not await clean.glob(history.folder):
        return True
    committed = clean.directory(at).filter(exclude=[GIT, *ignored])
    return not await code.changes(committed).is_empty()


async def project_of(source: dagger.Directory) -> dict[str, str]:
    """``name`` and ``version`` of pyproject.toml's [project]; what is not there is left out."""
    if "pyproject.toml" not in await source.entries():
        return {}
    try:
        project = tomllib.loads(await source.file("pyproject.toml").contents()).get("project", {})
    except tomllib.TOMLDecodeError:
        return {}
    return {key: str(project[key]) for key in ("name", "version") if key in project}


async def _commit(git: dagger.Directory, reference: str) -> str:
    """The commit that a reference is at: loose, else packed, else (unborn branch) none."""
    if await git.glob(reference):
        return (await git.file(reference).contents()).strip()
    if await git.glob("packed-refs"):
        for line in (await git.file("packed-refs").contents()).splitlines():
            commit, _, name = line.partition(" ")
            if name == reference:
                return commit
    return ""
