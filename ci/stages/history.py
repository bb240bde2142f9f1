"""The history of a source: its .git, which may be that of a repository far above it.

A source that is a folder of a larger repository brings along the repository's .git, in which a file
tells which folder it is. Git itself leaves such a file alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import dagger

__all__ = ["GIT", "History", "history_of", "with_history", "with_history_above"]

GIT = ".git"
_FOLDER = "towpath-folder"


@dataclass(frozen=True, kw_only=True)
class History:
    """A repository's .git folder, and which folder of the repository the source is."""

    git: dagger.Directory
    #: Relative to the top of the repository; empty where the source is all of it.
    folder: str


async def history_of(source: dagger.Directory) -> History | None:
    """What the source brings along; None: it has no .git folder."""
    if f"{GIT}/" not in await source.entries():
        return None
    git = source.directory(GIT)
    if _FOLDER not in await git.entries():
        return History(git=git, folder="")
    return History(git=git, folder=(await git.file(_FOLDER).contents()).removesuffix("\n"))


def with_history(source: dagger.Directory, history: History) -> dagger.Directory:
    """The source with a repository's history in the place of whatever .git it had."""
    git = history.git
    if history.folder:
        git = git.with_new_file(_FOLDER, f"{history.folder}\n")
    return source.without_file(GIT).with_directory(GIT, git)


async def with_history_above(source: dagger.Directory, ws: dagger.Workspace) -> dagger.Directory:
    """The source, which is the workspace's current folder, with the history of what is above it.

    It stays as it is where it has a .git, where there is none above it or above it is only a link,
    and where the engine shows a module nothing above the current folder.
    """
    entries = await source.entries()
    if not entries or {GIT, f"{GIT}/"} & set(entries):
        return source
    try:
        found = await ws.find_up(GIT)
        # A workspace does not tell where its current folder is, but for what lies in it.
        own = await ws.find_up(entries[0].rstrip("/")) if found else None
        if not found or not own:
            return source
        top, here = PurePosixPath(found).parent, PurePosixPath(own).parent
        above = ws.directory(str(top), include=[GIT])
        if top not in here.parents or f"{GIT}/" not in await above.entries():
            return source
    except dagger.QueryError:
        return source
    history = History(git=above.directory(GIT), folder=str(here.relative_to(top)))
    return with_history(source, history)
