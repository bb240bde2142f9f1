"""Digests of what copies and binds of a Dockerfile take: their part of cache keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import anyio

from ci.engine.dockerfile.fault import told
from ci.engine.dockerfile.taking import literal, matches, taken_digest
from ci.engine.flights import gather
from ci.engine.store.file_digest import file_digest
from ci.engine.store.layers import Snapshot
from ci.engine.store.store import Store
from ci.engine.trees.digest import VERSION
from ci.engine.trees.host import KnownDigests
from ci.engine.trees.merged import MergedTree
from ci.engine.trees.patterns import EVERYTHING
from ci.engine.vertices.vertex import (
    BindMount,
    CopySource,
    DirectoryRef,
    DockerCopy,
    Exec,
    FileRef,
    HostDirectory,
    HostFile,
    Http,
    Patterns,
    Tree,
    fingerprint,
)
from ci.errors import CiError

__all__ = ["Evaluator", "TakenDigests"]

T = TypeVar("T")


class Evaluator(Protocol):
    """What is needed of whoever evaluates vertices."""

    @property
    def store(self) -> Store:
        """Where digests are kept."""
        ...

    async def once(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, done once a session."""
        ...

    async def key(self, vertex: Tree | Exec) -> str:
        """The cache key of a vertex."""
        ...

    async def snapshot(self, tree: Tree) -> Snapshot:
        """The layers of a tree, evaluated."""
        ...

    async def content_digest(self, ref: DirectoryRef | FileRef, patterns: Patterns) -> str:
        """Hex BLAKE3 of what is there: a directory's selected entries, or a file."""
        ...


class TakenDigests:
    """Digests of one session; each is looked up in the store, or made once."""

    def __init__(self, solver: Evaluator) -> None:
        self._solver = solver

    async def of(self, vertex: DockerCopy | BindMount) -> str:
        """Hex BLAKE3 of all that the vertex takes of other trees, and whether it is extracted.

        Raises:
            CiError: something of it is missing.
        """
        return await self._solver.once("taken " + vertex.digest, partial(self._of, vertex))

    async def _of(self, vertex: DockerCopy | BindMount) -> str:
        if isinstance(vertex, BindMount):
            source = CopySource(
                source=DirectoryRef(tree=vertex.source.tree), path=vertex.source.path
            )
            return await self.of_source(source, bound=True)
        calls = [partial(self.of_source, source) for source in vertex.sources]
        if any([await self._recorded(source) is None for source in vertex.sources]):
            # What it is put on is most likely to be made too: at once, then.
            calls.append(partial(self._ahead, vertex.tree))
        try:
            digests = await gather(*calls)
        except CiError as error:
            raise told(vertex.origin, error) from error
        extracted = tuple(source.unpack for source in vertex.sources)
        return fingerprint(*digests[: len(vertex.sources)], extracted)

    async def _ahead(self, tree: Tree) -> str:
        await self._solver.snapshot(tree)
        return ""

    async def of_source(self, source: CopySource, *, bound: bool = False) -> str:
        """Hex BLAKE3 of what one source names; ``bound`` takes its path as it is.

        Raises:
            CiError: it is missing.
        """
        tree = source.source.tree
        if _is_whole(source) and isinstance(tree, HostDirectory):
            return await self._solver.content_digest(source.source, EVERYTHING)
        key = await self._key(source, bound=bound)
        record = self._solver.store.get("taken", key)
        if record is not None:
            return str(record["digest"])
        snapshot = await self._solver.snapshot(tree)
        digest = await anyio.to_thread.run_sync(partial(self._hash, snapshot, source, bound=bound))
        self._solver.store.put("taken", key, {"digest": digest})
        return digest

    async def _recorded(self, source: CopySource) -> str | None:
        """What the store has of a source, unless the source is to be made first."""
        if isinstance(source.source.tree, HostDirectory):
            return ""
        record = self._solver.store.get("taken", await self._key(source, bound=False))
        return None if record is None else str(record["digest"])

    async def _key(self, source: CopySource, *, bound: bool) -> str:
        tree = source.source.tree
        if isinstance(tree, HostDirectory):
            base = await self._solver.content_digest(DirectoryRef(tree=tree), EVERYTHING)
        elif isinstance(tree, HostFile | Http):
            base = fingerprint("layers", await self._solver.snapshot(tree))
        else:
            base = await self._solver.key(tree)
        return fingerprint(
            "taken", base, type(source.source).__name__, source.source.path, source.path,
            source.exclude, source.below, bound, VERSION,
        )  # fmt: skip

    def _hash(self, snapshot: Snapshot, source: CopySource, *, bound: bool) -> str:
        tree = MergedTree(self._solver.store.layer_paths(snapshot))
        found = literal(tree, "/", source.path) if bound else matches(tree, source)
        if isinstance(source.source.tree, HostDirectory):
            return taken_digest(tree, found, source, KnownDigests(self._solver.store, snapshot[0]))
        return taken_digest(tree, found, source, lambda entry: file_digest(entry.host))


def _is_whole(source: CopySource) -> bool:
    return (
        isinstance(source.source, DirectoryRef)
        and source.source.path == source.path == "/"
        and not source.exclude
        and not source.below
    )
