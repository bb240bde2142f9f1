"""The caller's folder on this machine, in place of the ``dagger.Workspace`` of a Dagger engine."""

from __future__ import annotations

from pathlib import Path

import dagger
from dagger import dag

from ci.repository import Repository
from ci.stages.history import History, with_history

__all__ = ["HostWorkspace"]

#: Of a repository's .git: what other working trees of it left there, and what git would run.
_NOT_OURS = ["worktrees", "hooks", "*.lock"]


class HostWorkspace:
    """Folders and files of this machine, relative to the caller's.

    Paths are absolute: a session that the environment names may have started in another folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = (root or Path.cwd()).absolute()

    def directory(
        self,
        path: str,
        *,
        exclude: list[str] | None = None,
        include: list[str] | None = None,
        gitignore: bool | None = None,
    ) -> dagger.Directory:
        """A folder with the history of the repository that it is of, wherever that lies."""
        directory = dag.host().directory(
            self.inside(path), exclude=exclude, include=include, gitignore=gitignore
        )
        repository = Repository.of(Path(self.inside(path)))
        if repository is None or not (repository.folder or repository.linked):
            return directory
        return with_history(directory, _history(repository))

    def without_history(self, path: str) -> dagger.Directory:
        """A folder as it is."""
        return dag.host().directory(self.inside(path))

    def file(self, path: str) -> dagger.File:
        """A file."""
        return dag.host().file(self.inside(path))

    def inside(self, path: str) -> str:
        """The absolute path of what is typed."""
        return str(self._root / Path(path).expanduser())


def _history(repository: Repository) -> History:
    """As it would be if the working tree were the repository's only one."""
    common = dag.host().directory(str(repository.common), exclude=_NOT_OURS)
    head = dag.host().file(str(repository.own / "HEAD"))
    return History(git=common.with_file("HEAD", head), folder=repository.folder)
