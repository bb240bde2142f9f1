"""The git repository that a folder of this machine is of: at its top, or somewhere below it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

__all__ = ["Repository"]

#: Of the environment, what would have git look at another repository, as a hook's does.
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
                "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",
                "GIT_ALTERNATE_OBJECT_DIRECTORIES")  # fmt: skip


#: Scopes of settings that come with a repository. Source: git-config(1), --show-scope.
_REPOSITORYS_OWN = (b"local", b"worktree")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where git keeps a folder's history. Source: gitrepository-layout(5)."""

    #: Holds the working tree's own HEAD.
    own: Path
    #: Holds what all working trees have in common: objects and references.
    common: Path
    #: The way from the top of the working tree; empty at the top.
    folder: str

    @classmethod
    def of(cls, folder: Path) -> Repository | None:
        """The nearest one, at the folder or above it; a .git may link to where it lies.

        None: there is none, the nearest link leads nowhere, or the working tree is another user's
        than the folder, who could have placed it there; or this user may not look.
        """
        try:
            return cls._above(folder.resolve())
        except OSError:
            return None

    @classmethod
    def _above(cls, place: Path) -> Repository | None:
        for top in (place, *place.parents):
            git = top / ".git"
            own = _linked(git) if git.is_file() else git
            if own is None or not _may_tell(top, place):
                return None
            if (own / "HEAD").is_file():
                below = "" if place == top else place.relative_to(top).as_posix()
                return cls(own=own, common=_common(own), folder=below)
        return None

    @property
    def linked(self) -> bool:
        """It lies elsewhere than in the .git of its working tree: a linked one, or a submodule."""
        return self.own != self.common or self.own.name != ".git"


async def is_dirty(folder: Path, ignored: Sequence[str]) -> bool | None:
    """Whether a folder has other files than its last commit; new ones that git ignores are none.

    What ``ignored`` matches, as globs, does not count, nor what is changed within a submodule.
    None: this machine has no git, or git does not want to tell, as it is where the repository
    belongs to somebody else; or the repository's own configuration would have git run programs.
    """
    if await _runs_filters(folder):
        return None
    said = await _git(
        folder, "-c", "core.fsmonitor=false",
        "status", "--porcelain", "--untracked-files=all", "--ignore-submodules=dirty", "--", ".",
        *(f":(exclude,glob){each}" for pattern in ignored for each in (pattern, f"{pattern}/**")),
    )  # fmt: skip
    return None if said is None else bool(said)


async def _runs_filters(folder: Path) -> bool:
    """The repository itself names filters: programs that git runs on files that it looks at.

    Those that the user or the machine has set up, such as Git LFS, are trusted.
    """
    said = await _git(folder, "config", "--list", "--show-scope", "--name-only", "--includes")
    settings = [line.split(b"\t") for line in (said or b"").splitlines()]
    return any(
        scope in _REPOSITORYS_OWN and name.lower().startswith(b"filter.")
        for scope, name, *_ in settings
    )


async def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, which fetches nothing; None where there is no git, or it fails."""
    program = shutil.which("git")
    if program is None:
        return None
    environ = {name: value for name, value in os.environ.items() if name not in _REDIRECTING}
    done = await anyio.run_process(
        [program, "--no-optional-locks", *arguments],
        cwd=folder,
        env={**environ, "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"},
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def _linked(file: Path) -> Path | None:
    """Where a file .git leads to; None: nowhere."""
    try:
        prefix, _, target = file.read_text(encoding="utf-8").partition(": ")
        own = (file.parent / target.rstrip("\n")).resolve()
    except (OSError, UnicodeDecodeError):
        return None
    return own if prefix == "gitdir" and (own / "HEAD").is_file() else None


def _common(own: Path) -> Path:
    """What a linked working tree's own folder says of where the rest is."""
    shared = own / "commondir"
    try:
        return (own / shared.read_text(encoding="utf-8").strip()).resolve()
    except FileNotFoundError:
        return own


def _may_tell(top: Path, place: Path) -> bool:
    return top.stat().st_uid in (place.stat().st_uid, os.geteuid())
