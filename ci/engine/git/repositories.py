"""Asks repositories for their refs, fetches commits and checks them out, each once.

A commit that was checked out stays in the store by its ID: nothing asks for it again. What names
stand for is asked once a session. A fetch happens in a folder of its own, which becomes a layer
when it is whole; nothing that is killed half-way is ever seen.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import anyio

from ci.engine.git.program import REMOTE_PROTOCOLS, Git, GitError
from ci.engine.git.refs import Refs
from ci.engine.git.repository import GitClean, GitRef, GitRepository, GitTree
from ci.engine.git.url import GitURL
from ci.engine.refusal import Refusal
from ci.engine.store.layers import Layer, remove_tree
from ci.engine.store.store import Store
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.merged import MergedTree
from ci.engine.trees.patterns import EVERYTHING, select
from ci.engine.vertices.execution import Secrets
from ci.engine.vertices.vertex import DirectoryRef, ServiceSpec

__all__ = ["Evaluator", "Repositories"]

T = TypeVar("T")

#: The user that goes with a token where none is named.
_TOKEN_USER = "x-access-token"  # noqa: S105 - a user's name
_FETCHED = "refs/towpath/fetched"
#: What git says where a server gives no commit by its ID.
_BY_NAME_ONLY = ("not our ref", "unadvertised object", "does not allow request")
_NO_DEPTH = ("does not support shallow", "shallow capabilities")
_LEFTOVERS = ("FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG", "logs", "hooks", "branches")


class Evaluator(Protocol):
    """What is needed of whoever evaluates vertices."""

    @property
    def store(self) -> Store:
        """Where commits are kept."""
        ...

    @property
    def secrets(self) -> Secrets:
        """Has tokens and headers."""
        ...

    async def once(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, done once a session."""
        ...

    async def folder(self, ref: DirectoryRef) -> Path | None:
        """A directory as one folder of this machine, to read only; None for the empty tree."""
        ...

    async def loopback_port(self, service: ServiceSpec, port: int) -> int:
        """A port of the host's loopback that leads to a port of a service, which is started."""
        ...


class Repositories:
    """Repositories of one session."""

    def __init__(self, solver: Evaluator) -> None:
        self._solver = solver
        self._store = solver.store

    # -- asking --------------------------------------------------------------------------------

    async def refs(self, repository: GitRepository) -> Refs:
        """Its names, asked once a session.

        Raises:
            GitError: it cannot be reached, or is none.
        """

        async def ask() -> Refs:
            folder = self._store.temporary()
            async with self._reach(repository) as (git, url):
                listed = await git.run(
                    "ls-remote", "--symref", "--", url, cwd=folder, about=_about(repository)
                )
            return Refs.parse(listed.decode("utf-8", "replace"))

        return await self._solver.once(f"git refs {repository.digest}", ask)

    async def common_ancestor(self, one: GitRef, other: GitRef) -> str:
        """The best commit that both have in their history.

        Raises:
            GitError: one cannot be fetched.
            Refusal: there is none.
        """
        key = "..".join(sorted((one.commit, other.commit)))
        record = self._store.get("git-ancestor", key)
        if record is None:
            folder = self._store.temporary()
            try:
                found = await self._ancestor(one, other, folder)
            finally:
                await anyio.to_thread.run_sync(remove_tree, folder)
            record = {"commit": found}
            self._store.put("git-ancestor", key, record)
        return str(record["commit"])

    async def _ancestor(self, one: GitRef, other: GitRef, folder: Path) -> str:
        plain = Git()
        await plain.run("init", "--quiet", "--bare", "--template=", ".", cwd=folder)
        for number, ref in enumerate((one, other)):
            async with self._reach(ref.repository) as (git, url):
                await plain.run("remote", "add", f"r{number}", url, cwd=folder)
                await git.run(
                    "fetch", "--quiet", "--no-tags", "--filter=tree:0", f"r{number}",
                    f"+{ref.commit}:{_FETCHED}/{number}", cwd=folder, about=_about(ref.repository),
                )  # fmt: skip
        found = await plain.run("merge-base", one.commit, other.commit, cwd=folder, codes=(0, 1))
        if not found.strip():
            raise Refusal("git", got=f"{one.commit} and {other.commit} have no common ancestor")
        return found.decode().strip()

    # -- checking out --------------------------------------------------------------------------

    async def layer(self, tree: GitTree | GitClean) -> Layer:
        """The files of a commit, or a directory as it was committed, in a new layer.

        Raises:
            GitError: it cannot be fetched, or is no repository.
        """
        folder = self._store.temporary()
        if isinstance(tree, GitTree):
            await self._check_out(tree, folder)
        else:
            await self._undo(tree, folder)
        return await anyio.to_thread.run_sync(self._store.add_layer, folder)

    async def _check_out(self, tree: GitTree, folder: Path) -> None:
        """Fetch the commit into a folder, and put its files there."""
        ref = tree.ref
        about = _about(ref.repository)
        async with self._reach(ref.repository) as (git, url):
            await git.run("init", "--quiet", "--template=", ".", cwd=folder)
            if ref.repository.url:
                await git.run("remote", "add", "origin", ref.repository.url, cwd=folder)
            await _fetch(git, url, ref, tree.depth, folder)
            for name, _ in tree.tags:
                await _fetch_ref(git, url, name, name, tree.depth, folder, about)
            await _put_on_branch(git, ref, folder)
            if (folder / ".gitmodules").is_file():
                await git.run(
                    "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1",
                    cwd=folder, about=f"of {about}",
                )  # fmt: skip
            shown = await git.run("show", "-s", "--format=%ct", ref.commit, cwd=folder)
        await anyio.to_thread.run_sync(_settle, folder, int(shown))

    async def _undo(self, tree: GitClean, folder: Path) -> None:
        """Fill a folder with hard links to the directory's files, and have git set them right.

        Git works with a repository that is made for it, and borrows the objects: a directory's
        own configuration could make it run programs.
        """
        source = await self._folder(tree.directory)
        await anyio.to_thread.run_sync(_copy, source, folder)
        scratch = self._store.temporary()
        git = Git(
            environ=(("GIT_DIR", str(scratch / "git")), ("GIT_WORK_TREE", str(folder))),
        )
        try:
            await Git().run("init", "--quiet", "--bare", "--template=", "git", cwd=scratch)
            await git.run("config", "core.bare", "false", cwd=folder)
            objects = next(
                place for place in (source / ".git/objects", source / "objects") if place.is_dir()
            )
            (scratch / "git/objects/info").mkdir(exist_ok=True)
            (scratch / "git/objects/info/alternates").write_text(f"{objects}\n")
            await git.run("update-ref", "--no-deref", "HEAD", tree.commit, cwd=folder)
            await git.run("read-tree", tree.commit, cwd=folder)
            await git.run("update-index", "-q", "--refresh", cwd=folder, codes=(0, 1))
            await git.run("reset", "--quiet", "--hard", tree.commit, cwd=folder)
            await git.run("clean", "--quiet", "-fd", "-e", "/.git", cwd=folder)
        finally:
            await anyio.to_thread.run_sync(remove_tree, scratch)

    # -- reaching ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _reach(self, repository: GitRepository) -> AsyncIterator[tuple[Git, str]]:
        """A git that may speak to the repository, and the URL to say."""
        if repository.directory is not None:
            folder = await self._folder(repository.directory)
            yield Git(protocols=("file",)), f"file://{folder}"
            return
        url = GitURL.parse(repository.url)
        git = Git(protocols=REMOTE_PROTOCOLS)
        base = url.origin
        if repository.service is not None:
            port = await self._solver.loopback_port(repository.service, url.port)
            base = f"{url.scheme}://127.0.0.1:{port}"
            git = replace(git, config=((f"url.{base}/.insteadOf", f"{url.origin}/"),))
        git = await self._with_credentials(git, repository, base)
        if url.scheme != "ssh":
            yield git, repository.url
            return
        hosts = self._store.temporary() / "known_hosts"
        hosts.write_text(repository.ssh_known_hosts)
        try:
            yield replace(git, environ=(*git.environ, *_ssh(repository, hosts))), repository.url
        finally:
            hosts.unlink()

    async def _with_credentials(self, git: Git, repository: GitRepository, base: str) -> Git:
        """Git, which sends the token or the header to that server, and to no other."""
        if repository.token is not None:
            token = (await self._solver.secrets.value(repository.token)).strip()
            pair = (repository.username or _TOKEN_USER).encode() + b":" + token
            encoded = base64.b64encode(pair)
            value, secrets = b"Basic " + encoded, (token, encoded)
        elif repository.header is not None:
            value = (await self._solver.secrets.value(repository.header)).strip()
            secrets = (value, value.rpartition(b" ")[2])
        else:
            return git
        if b"\n" in value or b"\r" in value:
            raise Refusal("git", got="a header of several lines", expected="a value of one line")
        header = f"Authorization: {value.decode('utf-8', 'surrogateescape')}"
        return replace(
            git,
            config=(*git.config, (f"http.{base}/.extraHeader", header)),
            secrets=secrets,
        )

    async def _folder(self, directory: DirectoryRef) -> Path:
        """A directory as a folder of the machine.

        Raises:
            Refusal: it is no repository, or needs the objects of another one.
        """
        folder = await self._solver.folder(directory)
        for place in (".git", "."):
            if folder is not None and (folder / place / "objects").is_dir():
                _require_whole(folder / place)
                return folder
        raise Refusal(
            "git repository", got="no .git folder in the directory",
            expected="a directory with the whole repository",
        )  # fmt: skip


def _require_whole(repository: Path) -> None:
    """See that it has all its objects: git would get the others where its configuration says.

    Raises:
        Refusal: it has not.
    """
    if (repository / "objects/info/alternates").exists():
        raise Refusal(
            "git repository", got="one that borrows objects from another",
            expected="one of its own", hint="git repack -a -d, and remove alternates",
        )  # fmt: skip
    try:
        settings = (repository / "config").read_text("utf-8", "replace").lower()
    except OSError:
        settings = ""
    if "partialclone" in settings or "promisor" in settings:
        raise Refusal(
            "git repository", got="a partial clone", expected="one with all its objects",
            hint="clone without --filter",
        )  # fmt: skip


def _about(repository: GitRepository) -> str:
    """What errors call it."""
    return repository.url or "the directory"


def _ssh(repository: GitRepository, hosts: Path) -> tuple[tuple[str, str], ...]:
    """Variables by which git starts ssh, without the user's configuration and keys.

    Raises:
        Refusal: there is no agent.
        GitError: there is no ssh.
    """
    if not repository.ssh_auth_socket:
        raise Refusal(
            f"git {repository.url}", got="no agent to get keys from",
            expected="sshAuthSocket, or SSH_AUTH_SOCK in the environment",
        )  # fmt: skip
    if shutil.which("ssh") is None:
        raise GitError(
            "ssh", got="no such program on this machine", expected="OpenSSH",
            hint="apt-get install openssh-client",
        )  # fmt: skip
    options = ["BatchMode=yes", "IdentityFile=none", "GlobalKnownHostsFile=none"]
    if repository.ssh_known_hosts:
        options += ["StrictHostKeyChecking=yes", f'UserKnownHostsFile="{hosts}"']
    else:
        options += ["StrictHostKeyChecking=no", "UserKnownHostsFile=none"]
    command = ["ssh", "-F", "none", *(part for option in options for part in ("-o", option))]
    return (
        ("GIT_SSH_COMMAND", shlex.join(command)),
        ("GIT_SSH_VARIANT", "ssh"),
        ("SSH_AUTH_SOCK", repository.ssh_auth_socket),
    )


async def _fetch(git: Git, url: str, ref: GitRef, depth: int, folder: Path) -> None:
    """Fetch a commit: by its ID, else by its name, else with everything."""
    about = _about(ref.repository)
    try:
        await _fetch_ref(git, url, ref.commit, _FETCHED, depth, folder, about)
    except GitError as error:
        if not any(mark in error.got for mark in _BY_NAME_ONLY):
            raise
    else:
        return
    if ref.name:
        await _fetch_ref(git, url, ref.name, _FETCHED, depth, folder, about)
        if await _has(git, ref.commit, folder):
            return
    await _fetch_ref(git, url, "refs/*", f"{_FETCHED}/*", 0, folder, about)
    if not await _has(git, ref.commit, folder):
        raise GitError(f"git fetch {about}", got=f"no commit {ref.commit} in it")


async def _fetch_ref(
    git: Git, url: str, source: str, target: str, depth: int, folder: Path, about: str
) -> None:
    """Fetch one ref; its history to the depth, or all of it where the server knows no depth."""
    shallow = [f"--depth={depth}"] if depth > 0 else []
    arguments = ["--quiet", "--no-tags", "--update-head-ok", "--no-write-fetch-head"]
    refspec = ["--", url, f"+{source}:{target}"]
    try:
        await git.run("fetch", *arguments, *shallow, *refspec, cwd=folder, about=about)
    except GitError as error:
        if not shallow or not any(mark in error.got for mark in _NO_DEPTH):
            raise
        await git.run("fetch", *arguments, *refspec, cwd=folder, about=about)


async def _has(git: Git, commit: str, folder: Path) -> bool:
    known = await git.run("cat-file", "-t", commit, cwd=folder, codes=(0, 1, 128))
    return known.strip() == b"commit"


async def _put_on_branch(git: Git, ref: GitRef, folder: Path) -> None:
    """Check the commit out: on its branch, or on none; a tag's name is kept."""
    if ref.name.startswith("refs/heads/"):
        await git.run("symbolic-ref", "HEAD", ref.name, cwd=folder)
    else:
        await git.run("update-ref", "--no-deref", "HEAD", ref.commit, cwd=folder)
    if ref.name.startswith("refs/tags/"):
        await git.run("update-ref", ref.name, ref.commit, cwd=folder)
    await git.run("reset", "--quiet", "--hard", ref.commit, cwd=folder)
    listed = await git.run("for-each-ref", "--format=delete %(refname)", "refs/towpath", cwd=folder)
    await git.run("update-ref", "--stdin", cwd=folder, stdin=listed)


def _settle(folder: Path, seconds: int) -> None:
    """Remove what tells of the fetch, and set all times to the commit's."""
    for name in _LEFTOVERS:
        remove_tree(folder / ".git" / name)
    for parent, names, files in os.walk(folder, topdown=False):
        for name in (*files, *names):
            os.utime(os.path.join(parent, name), (seconds, seconds), follow_symlinks=False)
    os.utime(folder, (seconds, seconds))


def _copy(source: Path, folder: Path) -> None:
    """Hard links to everything in a folder."""
    tree = MergedTree([str(source)])
    root = tree.root()
    assert root is not None  # noqa: S101 - the folder is there
    builder = LayerBuilder(MergedTree([]), folder, as_root=os.geteuid() == 0)
    builder.put_tree(root, select(tree, root, EVERYTHING), "/")
