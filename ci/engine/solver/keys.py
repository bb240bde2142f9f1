"""Cache keys: the recipe of a chain plus the content of everything that came from outside of it.

What one chain hands to another (a directory to copy or mount) is keyed by content, so that an
unchanged result cuts the rebuild off, however it was made.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable
from functools import partial

from blake3 import blake3

from ci.engine.git.repository import GitClean, GitTree
from ci.engine.solver.flights import gather
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.edits import DiffText, Edit
from ci.engine.vertices.execution import Secrets
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    Copy,
    Diff,
    DirectoryMount,
    DirectoryRef,
    DockerCopy,
    Exec,
    ExecMountOutput,
    ExecRootOutput,
    FileMount,
    FileRef,
    Filter,
    HostDirectory,
    HostFile,
    Http,
    ImageRoot,
    Mount,
    NewDirectory,
    NewFile,
    Patterns,
    Scratch,
    SecretMount,
    Symlink,
    Tarball,
    Tree,
    Vertex,
    Without,
    encode,
)

__all__ = ["Keys", "below", "fingerprint"]

ContentDigest = Callable[[DirectoryRef | FileRef, Patterns], Awaitable[str]]
#: Of all that a copy takes.
TakenDigest = Callable[[DockerCopy | BindMount], Awaitable[str]]


def fingerprint(*parts: object) -> str:
    """Hex BLAKE3 of values, unambiguously put together."""
    return blake3(encode(tuple(parts))).hexdigest()


class Keys:
    """Computes keys of one session, each once.

    Args:
        content: Gives content digests, evaluating what it must.
        taken: The same for what copies and binds of a Dockerfile take.
        secrets: Gives fingerprints.
        flavour: What else makes results differ, such as the sandbox's mode.
    """

    def __init__(
        self, content: ContentDigest, taken: TakenDigest, secrets: Secrets, *, flavour: str
    ) -> None:
        self._content = content
        self._taken = taken
        self._secrets = secrets
        self._flavour = flavour
        self._known: dict[str, str] = {}

    async def of(self, vertex: Tree | Exec) -> str:
        """The key of a vertex. Chains are followed in a loop: they may be of any length."""
        chain: list[Tree | Exec] = []
        link: Tree | Exec | None = vertex
        while link is not None and link.digest not in self._known:
            chain.append(link)
            link = below(link)
        copies = [item for item in chain if isinstance(item, DockerCopy) and item.sources]
        if len(copies) > 1:
            await gather(*(partial(self._taken, copy) for copy in copies))
        for item in reversed(chain):
            under = below(item)
            base = self._known[under.digest] if under is not None else ""
            self._known[item.digest] = await self._own(item, base)
        return self._known[vertex.digest]

    async def _own(  # noqa: C901, PLR0911 - one case a vertex
        self, vertex: Tree | Exec, base: str
    ) -> str:
        """The key of a vertex whose base is known."""
        kind = type(vertex).__name__
        match vertex:
            case Scratch():
                return fingerprint(kind)
            case ImageRoot():
                return fingerprint(kind, vertex.image_digest)
            case HostDirectory():
                return fingerprint("content", await self._whole(DirectoryRef(tree=vertex)))
            case HostFile() | Http():
                name = vertex.name if isinstance(vertex, Http) else posixpath.basename(vertex.path)
                content = await self._whole(FileRef(tree=vertex, path="/" + name))
                return fingerprint("file", name, content)
            case NewFile():
                return fingerprint(
                    kind, base, vertex.path, vertex.contents, vertex.permissions, vertex.owner or ""
                )
            case NewDirectory():
                return fingerprint(kind, base, vertex.path, vertex.permissions, vertex.owner or "")
            case Symlink():
                return fingerprint(kind, base, vertex.path, vertex.target)
            case Without():
                return fingerprint(kind, base, vertex.paths)
            case ExecRootOutput():
                return fingerprint(kind, base)
            case ExecMountOutput():
                return fingerprint(kind, base, vertex.path)
            case Exec():
                return await self._exec(vertex, base)
            case _:
                return await self._from_others(vertex, base)

    async def _from_others(  # noqa: PLR0911 - one case a vertex
        self, vertex: Tree, base: str
    ) -> str:
        """Of vertices that take something from another chain."""
        kind = type(vertex).__name__
        match vertex:
            case Copy():
                content = await self._content(vertex.source, vertex.patterns)
                source = type(vertex.source).__name__
                name = ""
                if isinstance(vertex.source, FileRef):
                    name = posixpath.basename(vertex.source.path)
                return fingerprint(
                    kind, base, vertex.path, source, name, content, vertex.owner or "",
                    vertex.permissions if vertex.permissions is not None else "",
                )  # fmt: skip
            case Edit():
                parts = [
                    await self._whole(part) if isinstance(part, DirectoryRef | FileRef) else part
                    for part in vertex.parts()
                ]
                return fingerprint(kind, base, *parts)
            case DockerCopy():
                taken = await self._taken(vertex) if vertex.sources else ""
                return fingerprint(
                    kind, base, vertex.destination, taken, vertex.owner or "", vertex.mode
                )
            case Filter():
                return fingerprint("content", await self._content(vertex.source, vertex.patterns))
            case Diff() | DiffText():
                lower, upper = await self._whole(vertex.lower), await self._whole(vertex.upper)
                return fingerprint(kind, lower, upper)
            case GitTree():
                ref = vertex.ref
                return fingerprint(
                    kind, ref.repository.url, ref.commit, ref.name, vertex.depth, vertex.tags
                )
            case GitClean():
                return fingerprint(kind, await self._whole(vertex.directory), vertex.commit)
            case Tarball():
                roots = [await self.of(root) for root in vertex.roots]
                return fingerprint(
                    kind, tuple(roots), vertex.configs, vertex.compression, vertex.media_types,
                    vertex.annotations,
                )  # fmt: skip
        raise TypeError(f"no key for {kind}")

    async def _exec(self, exec_: Exec, base: str) -> str:
        mounts = await gather(*(partial(self._mount, mount) for mount in exec_.mounts))
        secrets = [
            (name, await self._secrets.fingerprint(secret)) for name, secret in exec_.secret_env
        ]
        services = [(alias, await self.of(service.exec)) for alias, service in exec_.services]
        return fingerprint(
            "Exec", self._flavour, base, exec_.args, exec_.env, tuple(secrets), exec_.workdir,
            exec_.user, tuple(mounts), tuple(services), exec_.stdin, exec_.redirect_stdin,
            exec_.redirect_stdout, exec_.redirect_stderr, str(exec_.expect),
            exec_.insecure_root_capabilities, exec_.no_init, exec_.offline, exec_.platform,
        )  # fmt: skip

    async def _mount(self, mount: Mount) -> str:
        kind = type(mount).__name__
        match mount:
            case DirectoryMount():
                content = await self._whole(mount.source)
                return fingerprint(kind, mount.path, content, mount.owner or "", mount.read_only)
            case FileMount():
                content = await self._whole(mount.source)
                name = posixpath.basename(mount.source.path)
                return fingerprint(kind, mount.path, name, content, mount.owner or "")
            case BindMount():
                return fingerprint(kind, mount.path, await self._taken(mount), mount.read_only)
            case CacheMount():
                return fingerprint(kind, mount.path, mount.volume, mount.read_only)
            case SecretMount():
                secret = await self._secrets.fingerprint(mount.secret)
                return fingerprint(kind, mount.path, secret, mount.owner or "", mount.mode)
            case _:
                return mount.digest

    async def _whole(self, ref: DirectoryRef | FileRef) -> str:
        return await self._content(ref, EVERYTHING)


def below(vertex: Vertex) -> Tree | Exec | None:
    """What a vertex is built on, where that is its own chain."""
    match vertex:
        case NewFile() | NewDirectory() | Symlink() | Copy() | DockerCopy() | Without() | Edit():
            return vertex.tree
        case ExecRootOutput() | ExecMountOutput():
            return vertex.exec
        case Exec():
            return vertex.root
        case _:
            return None
