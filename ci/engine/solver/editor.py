"""Makes the layers of edits. All functions block; the solver calls them in threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from anyio import from_thread

from ci.engine.git import patch
from ci.engine.store.layers import Layer, Snapshot, remove_tree
from ci.engine.store.store import Store
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.delta import Pair, differences
from ci.engine.trees.making import directory
from ci.engine.trees.merged import Entry, MergedTree, join
from ci.engine.trees.passwd import owner_ids
from ci.engine.trees.patterns import EVERYTHING, select
from ci.engine.vertices.edits import Applied, Chown, Edit, Patched, Timestamps

__all__ = ["Editor"]


class Editor:
    """Makes layers in ``store``."""

    def __init__(self, store: Store, *, as_root: bool) -> None:
        self._store = store
        self._as_root = as_root

    def layer(self, edit: Edit, below: Snapshot, sources: Sequence[Snapshot]) -> Layer | None:
        """What the edit puts on top of ``below``; None where it changes nothing.

        ``sources`` are the snapshots of the edit's own, in its order.

        Raises:
            NoSuchPath: what it is about is not there.
            PatchError: a patch does not fit.
        """
        base = self._merged(below)
        folder = self._store.temporary()
        builder = LayerBuilder(base, folder, as_root=self._as_root)
        match edit:
            case Chown():
                owner = owner_ids(base, edit.owner.spec)
                for entry in _affected(base, edit.path):
                    builder.renew(entry, owner=owner)
            case Timestamps():
                _set_times(builder, list(_affected(base, edit.path)), edit.seconds)
            case Applied():
                places = (sources[0], edit.before.path), (sources[1], edit.after.path)
                _apply(builder, base, edit.path, self._differences(*places))
            case Patched():
                self._patch(builder, base, edit, self._merged(sources[0]))
            case _:
                raise TypeError(f"cannot make a {type(edit).__name__}")
        return self._store.add_layer(folder)

    def diff_text(self, lower: tuple[Snapshot, str], upper: tuple[Snapshot, str]) -> Layer:
        """The tree of a DiffText: what turns one directory into the other."""
        folder, scratch = self._store.temporary(), self._store.temporary()
        pairs = list(self._differences(lower, upper))
        try:
            from_thread.run(patch.write, pairs, scratch, folder / "diff.patch")
        finally:
            remove_tree(scratch)
        (folder / "diff.patch").chmod(0o644)
        return self._store.add_layer(folder)

    def _differences(
        self, lower: tuple[Snapshot, str], upper: tuple[Snapshot, str]
    ) -> Iterator[Pair]:
        old, new = self._merged(lower[0]), self._merged(upper[0])
        return differences(old, directory(old, lower[1]), new, directory(new, upper[1]))

    def _merged(self, snapshot: Snapshot) -> MergedTree:
        return MergedTree(self._store.layer_paths(snapshot))

    def _patch(
        self, builder: LayerBuilder, base: MergedTree, edit: Patched, source: MergedTree
    ) -> None:
        """Apply the patch to a copy made of hard links, and take over what is new in it."""
        content = Path(source.require(edit.patch.path, "file").host).read_bytes()
        root = directory(base, edit.path)
        copy = self._store.temporary()
        try:
            if root is not None:
                entries = (pair for pair in select(base, root, EVERYTHING) if _counts(pair[0]))
                LayerBuilder(MergedTree([]), copy, as_root=self._as_root).put_tree(
                    root, entries, "/"
                )
            from_thread.run(patch.apply, content, copy)
            changed = MergedTree([str(copy)])
            pairs = differences(base, root, changed, changed.root())
            _apply(builder, base, edit.path, (pair for pair in pairs if _counts(pair.path)))
        finally:
            remove_tree(copy)


def _counts(path: str) -> bool:
    """The path is not of a repository at the top: git shall not work in it."""
    return path.partition("/")[0] != ".git"


def _affected(base: MergedTree, path: str) -> Iterator[Entry]:
    """What is at a path and below it, parents first."""
    entry = base.lookup(path) if path == "/" else base.require(path)
    if entry is None:
        return
    yield entry
    if entry.is_directory:
        yield from base.walk(entry)


def _set_times(builder: LayerBuilder, entries: Sequence[Entry], seconds: int) -> None:
    """Directories come last: what is put into one changes its time."""
    for entry in entries:
        if not entry.is_directory:
            builder.renew(entry, seconds=seconds)
    for entry in reversed(entries):
        if entry.is_directory:
            builder.renew(entry, seconds=seconds)


def _apply(builder: LayerBuilder, base: MergedTree, path: str, pairs: Iterable[Pair]) -> None:
    """Do to the directory at a path what was done to another one. No link is followed below it."""
    root = base.resolve(path)
    gone = ""
    for relative, old, new in pairs:
        place = join(root, relative)
        if gone and place.startswith(gone):
            continue
        if new is None:
            gone = f"{place}/"
            if _at(base, place) is not None:
                builder.remove(place)
        elif new.is_directory:
            _merge_directory(builder, base, place, new)
        else:
            if old is not None and old.is_directory:
                gone = f"{place}/"
            builder.put(new, place, owner=None, mode=None)


def _merge_directory(builder: LayerBuilder, base: MergedTree, place: str, new: Entry) -> None:
    there = _at(base, place)
    if there is not None and there.is_directory:
        builder.ensure_directory(place)
    builder.replace_directory(new, place)


def _at(base: MergedTree, place: str) -> Entry | None:
    """What is at a path in which no part is a link, but for the last."""
    entry = base.root()
    for part in place.split("/")[1:]:
        if entry is None or not entry.is_directory:
            return None
        entry = base.child(entry, part)
    return entry
