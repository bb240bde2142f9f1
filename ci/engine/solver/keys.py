"""Cache keys: the recipe of a chain plus the content of everything that came from outside of it.

What one chain hands to another (a directory to copy or mount) is keyed by content, so that an
unchanged result cuts the rebuild off, however it was made.

A vertex is keyed by all its inputs, so that a new one, or a new field, needs no word here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable
from functools import partial

from ci.engine.flights import gather
from ci.engine.git.repository import GitTree
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.execution import Secrets
from ci.engine.vertices.vertex import (
    BindMount,
    CacheMount,
    Copy,
    DirectoryRef,
    DockerCopy,
    Exec,
    FileRef,
    Filter,
    HostDirectory,
    HostFile,
    Http,
    Mount,
    Owner,
    Patterns,
    SecretRef,
    ServiceSpec,
    Tree,
    Vertex,
    fingerprint,
)

__all__ = ["Keys"]

ContentDigest = Callable[[DirectoryRef | FileRef, Patterns], Awaitable[str]]
#: Of all that a copy takes.
TakenDigest = Callable[[DockerCopy | BindMount], Awaitable[str]]


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
            link = link.base
        copies = [item for item in chain if isinstance(item, DockerCopy) and item.sources]
        if len(copies) > 1:
            await gather(*(partial(self._taken, copy) for copy in copies))
        for item in reversed(chain):
            base = self._known[item.base.digest] if item.base is not None else ""
            self._known[item.digest] = await self._own(item, base)
        return self._known[vertex.digest]

    async def _own(  # noqa: PLR0911 - one case a vertex
        self, vertex: Tree | Exec, base: str
    ) -> str:
        """The key of a vertex whose base is known: of all its inputs, unless it is told apart."""
        match vertex:
            case HostDirectory():
                return fingerprint("content", await self._whole(DirectoryRef(tree=vertex)))
            case HostFile() | Http():
                name = vertex.name if isinstance(vertex, Http) else posixpath.basename(vertex.path)
                content = await self._whole(FileRef(tree=vertex, path="/" + name))
                return fingerprint("file", name, content)
            case Filter():
                return fingerprint("content", await self._content(vertex.source, vertex.patterns))
            case Copy():
                source = await self._place(vertex.source, vertex.patterns)
                return await self._fields(vertex, base, source=source, patterns="")
            case DockerCopy():
                taken = await self._taken(vertex) if vertex.sources else ""
                return await self._fields(vertex, base, sources=taken)
            case GitTree():  # by its commit, whoever was allowed to fetch that
                commit = (vertex.ref.repository.url, vertex.ref.commit, vertex.ref.name)
                return await self._fields(vertex, base, ref=commit)
            case Exec():
                return await self._fields(vertex, base, flavour=self._flavour)
            case _:
                return await self._fields(vertex, base)

    async def _fields(self, vertex: Vertex, base: str, **instead: object) -> str:
        """Of all inputs of a vertex; ``instead`` has what stands for some, or is one more."""
        given = vertex.inputs()
        given.pop(vertex.base_name, None)
        parts = await self._parts(tuple((given | instead).values()))
        return fingerprint(type(vertex).__name__, base, *parts)

    async def _parts(self, values: tuple[object, ...]) -> tuple[object, ...]:
        if all(map(_is_plain, values)):
            return values
        return tuple(await gather(*(partial(self._part, value) for value in values)))

    async def _part(self, value: object) -> object:  # noqa: PLR0911 - one case a type
        """What stands for one input of a vertex in its key.

        Raises:
            TypeError: nothing may: it would be keyed by its recipe, and not by its content.
        """
        match value:
            case tuple():
                return await self._parts(value)
            case DirectoryRef() | FileRef():
                return await self._place(value, EVERYTHING)
            case SecretRef():
                return await self._secrets.fingerprint(value)
            case ServiceSpec():
                return await self.of(value.exec)
            case Mount():
                return await self._mount(value)
            case Tree() | Exec():
                return await self.of(value)
            case Vertex() if not _is_plain(value):
                raise TypeError(f"no key for {type(value).__name__}")
            case _:
                return value

    async def _mount(self, mount: Mount) -> str:
        match mount:
            case BindMount():
                return await self._fields(mount, "", source=await self._taken(mount))
            case CacheMount():  # what it says of a new volume is in the volume's identity
                volume = (mount.path, mount.volume, mount.read_only)
                return fingerprint(type(mount).__name__, *volume)
            case _:
                return await self._fields(mount, "")

    async def _place(self, ref: DirectoryRef | FileRef, patterns: Patterns) -> tuple[str, ...]:
        """The content of a directory; of a file, whose name counts too."""
        name = posixpath.basename(ref.path) if isinstance(ref, FileRef) else ""
        return type(ref).__name__, name, await self._content(ref, patterns)

    async def _whole(self, ref: DirectoryRef | FileRef) -> str:
        return await self._content(ref, EVERYTHING)


def _is_plain(value: object) -> bool:
    """It stands for itself: it refers to nothing whose content counts."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return not isinstance(value, Vertex) or isinstance(value, Owner | Patterns)
