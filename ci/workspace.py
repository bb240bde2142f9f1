"""The caller's folder on this machine, in place of the ``dagger.Workspace`` of a Dagger engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagger
from dagger import dag

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
        """A folder, with its repository in the place of a link to it.

        Linked working trees and submodules have such a file .git.
        """
        place = self.inside(path)
        directory = dag.host().directory(
            place, exclude=exclude, include=include, gitignore=gitignore
        )
        linked = _Linked.of(Path(place))
        if linked is None:
            return directory
        return directory.without_file(".git").with_directory(".git", linked.repository())

    def file(self, path: str) -> dagger.File:
        """A file."""
        return dag.host().file(self.inside(path))

    def inside(self, path: str) -> str:
        """The absolute path of what is typed."""
        return str(self._root / Path(path).expanduser())


@dataclass(frozen=True, kw_only=True)
class _Linked:
    """What a file .git leads to. Source: gitrepository-layout(5)."""

    #: Holds the working tree's own HEAD.
    own: Path
    #: Holds what all working trees have in common: objects and references.
    common: Path

    @classmethod
    def of(cls, folder: Path) -> _Linked | None:
        """None: .git is no link, or leads nowhere."""
        try:
            prefix, _, target = (folder / ".git").read_text(encoding="utf-8").partition(": ")
            own = (folder / target.rstrip("\n")).resolve()
            if prefix != "gitdir" or not (own / "HEAD").is_file():
                return None
            shared = own / "commondir"
            common = own / shared.read_text(encoding="utf-8").strip() if shared.exists() else own
        except (OSError, UnicodeDecodeError):
            return None
        return cls(own=own, common=common.resolve())

    def repository(self) -> dagger.Directory:
        """As it would be if the working tree were the repository's only one."""
        common = dag.host().directory(str(self.common), exclude=_NOT_OURS)
        return common.with_file("HEAD", dag.host().file(str(self.own / "HEAD")))
