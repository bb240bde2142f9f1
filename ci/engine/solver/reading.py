"""Reading trees: what a solver has evaluated, as values and on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from ci.engine.flights import gather
from ci.engine.store.layers import Snapshot
from ci.engine.store.store import Store
from ci.engine.trees.delta import Pair, differences
from ci.engine.trees.export import export_directory, export_file, remove_paths
from ci.engine.trees.making import directory
from ci.engine.trees.matching import Match
from ci.engine.trees.merged import Kind, MergedTree
from ci.engine.trees.patterns import EVERYTHING, PatternList, select
from ci.engine.trees.search import Search
from ci.engine.vertices.vertex import DirectoryRef, FileRef, Tree

__all__ = ["Reading", "Stat"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What is at a path of a tree."""

    kind: Kind
    size: int
    #: Permission bits.
    mode: int
    #: With all links resolved.
    path: str


class Reading:
    """Reads what ``snapshot`` evaluates. Abstract: the solver is one."""

    store: Store

    async def snapshot(self, tree: Tree) -> Snapshot:
        """The layers of a tree, evaluated."""
        raise NotImplementedError

    async def _look(self, tree: Tree, function: Callable[[MergedTree], T]) -> T:
        snapshot = await self.snapshot(tree)
        return await anyio.to_thread.run_sync(lambda: function(self._merged(snapshot)))

    def _merged(self, snapshot: Snapshot) -> MergedTree:
        return MergedTree(self.store.layer_paths(snapshot))

    async def read(self, ref: FileRef) -> bytes:
        """A file's content. Raises NoSuchPath."""
        return await self._look(
            ref.tree, lambda tree: Path(tree.require(ref.path, "file").host).read_bytes()
        )

    async def stat(self, ref: DirectoryRef | FileRef, *, follow: bool = True) -> Stat | None:
        """What is at a path, whatever its type; None when nothing is."""

        def look(tree: MergedTree) -> Stat | None:
            entry = tree.lookup(ref.path, follow=follow)
            if entry is None:
                return None
            status = entry.status
            return Stat(
                kind=entry.kind, size=status.st_size, mode=status.st_mode & 0o7777, path=entry.path
            )

        return await self._look(ref.tree, look)

    async def entries(self, ref: DirectoryRef) -> list[str]:
        """Names in a directory, sorted; those of directories end in ``/``."""

        def look(tree: MergedTree) -> list[str]:
            root = directory(tree, ref.path)
            children = tree.children(root) if root is not None else []
            return [
                entry.path.rpartition("/")[2] + ("/" if entry.is_directory else "")
                for entry in children
            ]

        return await self._look(ref.tree, look)

    async def glob(self, ref: DirectoryRef, pattern: str) -> list[str]:
        """Paths below a directory, relative to it, that match; directories end in ``/``."""
        wanted = PatternList((pattern,))

        def look(tree: MergedTree) -> list[str]:
            root = directory(tree, ref.path)
            if root is None:
                return []
            return [
                path + ("/" if entry.is_directory else "")
                for path, entry in select(tree, root, EVERYTHING)
                if wanted.matches_itself(path)
            ]

        return await self._look(ref.tree, look)

    async def search(self, ref: DirectoryRef | FileRef, search: Search) -> list[Match]:
        """What is found below a directory, or in a file."""

        def files(tree: MergedTree) -> list[tuple[str, str]]:
            if isinstance(ref, FileRef):
                return [(ref.path.rpartition("/")[2], tree.require(ref.path, "file").host)]
            return list(search.files(tree, directory(tree, ref.path)))

        return await search.matches(await self._look(ref.tree, files))

    async def compare(
        self, before: DirectoryRef, after: DirectoryRef, use: Callable[[Iterator[Pair]], T]
    ) -> T:
        """What ``use`` makes, in a thread, of all that differs between two directories."""
        lower, upper = await gather(
            partial(self.snapshot, before.tree), partial(self.snapshot, after.tree)
        )

        def look() -> T:
            old, new = self._merged(lower), self._merged(upper)
            return use(
                differences(old, directory(old, before.path), new, directory(new, after.path))
            )

        return await anyio.to_thread.run_sync(look)

    async def export_directory(
        self, ref: DirectoryRef, host_path: Path, *, wipe: bool = False
    ) -> None:
        """Write a directory's entries into a folder of the host, which is made when missing."""

        def write(tree: MergedTree) -> None:
            export_directory(tree, directory(tree, ref.path), host_path, wipe=wipe)

        await self._look(ref.tree, write)

    async def remove_exported(self, host_path: Path, paths: Sequence[str]) -> None:
        """Remove paths (relative to it) from a folder of the host; links are not followed."""
        await anyio.to_thread.run_sync(remove_paths, host_path, paths)

    async def export_file(
        self, ref: FileRef, host_path: Path, *, allow_parent_dir: bool = False
    ) -> Path:
        """Write a file to the host, and return where.

        With ``allow_parent_dir`` the path of a folder means: in it, under the file's own name.
        """

        def write(tree: MergedTree) -> Path:
            entry = tree.require(ref.path, "file")
            return export_file(entry, host_path, allow_parent_dir=allow_parent_dir)

        return await self._look(ref.tree, write)
