"""Git repositories and what is in them, as vertices. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.vertices.vertex import DirectoryRef, SecretRef, ServiceSpec, Tree, Vertex

__all__ = ["GitClean", "GitRef", "GitRepository", "GitTree"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GitRepository(Vertex):
    """A remote repository, or one in a directory."""

    #: Empty where it is a directory's.
    url: str = ""
    directory: DirectoryRef | None = None
    keep_git_dir: bool = True
    username: str = ""
    token: SecretRef | None = None
    header: SecretRef | None = None
    ssh_known_hosts: str = ""
    #: Path of the agent's socket on the host.
    ssh_auth_socket: str = ""
    #: Serves the repository; started before it is asked.
    service: ServiceSpec | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class GitRef(Vertex):
    """A commit of a repository, by the name that it was found by, if any."""

    repository: GitRepository
    name: str
    commit: str


@dataclass(frozen=True, kw_only=True, eq=False)
class GitTree(Tree):
    """The files of a commit, with ``/.git``."""

    ref: GitRef
    #: Commits of history; 0 is all.
    depth: int = 1
    #: Names and objects of tags that ``/.git`` holds.
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class GitClean(Tree):
    """A directory as it was committed: changes undone, new files gone; ignored files stay."""

    directory: DirectoryRef
    commit: str
