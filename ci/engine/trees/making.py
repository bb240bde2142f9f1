"""Evaluates the vertices that no exec makes: each returns a layer, or none where nothing changes.

All functions block; the solver calls them in threads.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.store import Store
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.delta import differences
from ci.engine.trees.merged import Entry, MergedTree, join, normalize
from ci.engine.trees.passwd import owner_ids
from ci.engine.trees.patterns import PatternList, select
from ci.engine.vertices.vertex import (
    Copy,
    DirectoryRef,
    NewDirectory,
    NewFile,
    Owner,
    Patterns,
    Symlink,
    Without,
)

__all__ = ["TreeBuilder"]


class TreeBuilder:
    """Makes layers in ``store``."""

    def __init__(self, store: Store, *, as_root: bool) -> None:
        self._store = store
        self._as_root = as_root

    def merged(self, snapshot: Snapshot) -> MergedTree:
        """The merged view of a snapshot."""
        return MergedTree(self._store.layer_paths(snapshot))

    def _builder(self, base: MergedTree) -> tuple[LayerBuilder, Path]:
        folder = self._store.temporary()
        return LayerBuilder(base, folder, as_root=self._as_root), folder

    def new_file(self, vertex: NewFile, below: Snapshot) -> Layer:
        """The layer of a NewFile."""
        base = self.merged(below)
        builder, folder = self._builder(base)
        place = base.resolve(normalize(vertex.path))
        builder.write(place, vertex.contents, vertex.permissions, _owner(base, vertex.owner))
        return self._store.add_layer(folder)

    def new_directory(self, vertex: NewDirectory, below: Snapshot) -> Layer:
        """The layer of a NewDirectory."""
        base = self.merged(below)
        builder, folder = self._builder(base)
        place = base.resolve(normalize(vertex.path))
        builder.make_directory(place, vertex.permissions, _owner(base, vertex.owner))
        return self._store.add_layer(folder)

    def symlink(self, vertex: Symlink, below: Snapshot) -> Layer:
        """The layer of a Symlink."""
        builder, folder = self._builder(self.merged(below))
        builder.symlink(vertex.target, builder.resolve(vertex.path))
        return self._store.add_layer(folder)

    def copy(self, vertex: Copy, below: Snapshot, source: Snapshot) -> Layer:
        """The layer of a Copy from a tree of snapshot ``source``.

        Raises:
            NoSuchPath: the source is missing or of the wrong type, or a file is in the way.
        """
        base = self.merged(below)
        tree = self.merged(source)
        owner = _owner(base, vertex.owner)
        builder, folder = self._builder(base)
        if isinstance(vertex.source, DirectoryRef):
            root = directory(tree, vertex.source.path)
            place = base.resolve(normalize(vertex.path))
            entries = select(tree, root, vertex.patterns) if root else ()
            if root is not None:
                builder.put_tree(root, entries, place, owner=owner, mode=vertex.permissions)
            else:
                builder.ensure_directory(place)
        else:
            entry = tree.require(vertex.source.path, "file")
            place = builder.resolve(vertex.path)
            existing = base.lookup(place)
            if existing is not None and existing.is_directory:
                place = join(existing.path, os.path.basename(vertex.source.path))
            builder.put(entry, place, owner=owner, mode=vertex.permissions)
        return self._store.add_layer(folder)

    def without(self, vertex: Without, below: Snapshot) -> Layer | None:
        """The layer of a Without; None when nothing it names is there."""
        base = self.merged(below)
        places = sorted(set(self._matching(base, vertex.paths)))
        if not places:
            return None
        builder, folder = self._builder(base)
        gone = ""
        for place in places:
            if not gone or not place.startswith(gone + "/"):
                builder.remove(place)
                gone = place
        return self._store.add_layer(folder)

    def _matching(self, base: MergedTree, paths: Iterable[str]) -> Iterable[str]:
        root = base.root()
        for path in paths:
            clean = normalize(path)
            place = join(base.resolve(clean.rpartition("/")[0] or "/"), clean.rpartition("/")[2])
            if base.lookup(place, follow=False) is not None:
                yield place
            elif root is not None and any(char in clean for char in "*?["):
                wanted = PatternList((clean,))
                yield from (e.path for e in base.walk(root) if wanted.matches(e.path[1:]))

    def subset(self, source: Snapshot, path: str, patterns: Patterns) -> Layer | None:
        """What of a directory is selected, as a tree of its own."""
        tree = self.merged(source)
        root = directory(tree, path)
        if root is None:
            return None
        builder, folder = self._builder(MergedTree([]))
        builder.put_tree(root, select(tree, root, patterns), "/")
        return self._store.add_layer(folder)

    def difference(self, lower: tuple[Snapshot, str], upper: tuple[Snapshot, str]) -> Layer | None:
        """What a directory of ``upper`` has that one of ``lower`` has not, or has otherwise."""
        old, new = self.merged(lower[0]), self.merged(upper[0])
        root = directory(new, upper[1])
        if root is None:
            return None
        skip = len(root.path.rstrip("/")) + 1
        pairs = differences(old, directory(old, lower[1]), new, root)
        changed = {pair.path for pair in pairs if pair.new is not None}
        needed = {parent for path in changed for parent in _parents(path)} | changed
        builder, folder = self._builder(MergedTree([]))
        kept = ((e.path[skip:], e) for e in new.walk(root) if e.path[skip:] in needed)
        builder.put_tree(root, kept, "/")
        return self._store.add_layer(folder)

    def file_copy(self, source: Path, name: str, mode: int) -> Layer:
        """A tree of one file with the content of ``source``."""
        copy = self._store.temporary() / "copy"
        shutil.copyfile(source, copy)
        return self.lone_file(copy, name, mode)

    def lone_file(self, source: Path, name: str, mode: int) -> Layer:
        """A tree of one file, which is taken over."""
        folder = self._store.temporary()
        os.chmod(source, mode)
        os.rename(source, folder / name)
        return self._store.add_layer(folder)


def directory(tree: MergedTree, path: str) -> Entry | None:
    """The directory at ``path``; None for the root of the tree without layers.

    Raises:
        NoSuchPath: it is not there, or no directory.
    """
    if normalize(path) == "/":
        return tree.root()
    return tree.require(path, "directory")


def _owner(base: MergedTree, owner: Owner | None) -> tuple[int, int] | None:
    return None if owner is None or not owner.spec else owner_ids(base, owner.spec)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
