"""COPY, ADD and WORKDIR of a Dockerfile as a layer, with Docker's own rules of destinations.

Files are hard-linked where neither owner nor permissions change. Blocks; the solver calls it in
threads. The rules are those of BuildKit's copier:
https://github.com/tonistiigi/fsutil/blob/master/copy/copy.go
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from ci.engine.dockerfile.archives import extract, is_archive
from ci.engine.dockerfile.fault import told
from ci.engine.dockerfile.permissions import apply
from ci.engine.dockerfile.taking import Match, inside, matches
from ci.engine.store.layers import Layer
from ci.engine.store.store import Store
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.merged import Entry, MergedTree, NoSuchPath, join, normalize
from ci.engine.trees.passwd import owner_ids
from ci.engine.vertices.vertex import CopySource, DockerCopy
from ci.errors import CiError

__all__ = ["copy_layer"]


def copy_layer(
    vertex: DockerCopy,
    below: Sequence[str],
    sources: Sequence[Sequence[str]],
    *,
    store: Store,
    as_root: bool,
) -> Layer | None:
    """The layer of a DockerCopy; None where nothing changes.

    Args:
        vertex: What is to be done.
        below: Folders of the tree that it changes, lowest first.
        sources: The same of each of its sources.
        store: Takes the layer.
        as_root: Owners can be set.

    Raises:
        CiError: a source is not there, or does not fit what is at its destination.
    """
    folder = store.temporary()
    try:
        copier = _Copier(vertex, below, folder, as_root=as_root)
        for source, folders in zip(vertex.sources, sources, strict=True):
            copier.take(MergedTree(folders), source)
        if not vertex.sources:
            copier.make_folders(vertex.destination)
    except CiError as error:
        raise told(vertex.origin, error) from error
    return store.add_layer(folder) if copier.changed else None


class _Copier(LayerBuilder):
    """Fills the layer of one instruction."""

    def __init__(
        self, vertex: DockerCopy, below: Sequence[str], folder: Path, *, as_root: bool
    ) -> None:
        base = MergedTree(below)
        super().__init__(base, folder, as_root=as_root)
        self._vertex = vertex
        self._below = list(below)
        #: The tree as it is by now: what is below, and this layer.
        self._now = MergedTree([*below, str(folder)])
        self._owner = owner_ids(base, vertex.owner.spec) if vertex.owner else None
        self.changed = False

    # -- one source ----------------------------------------------------------------------------

    def take(self, tree: MergedTree, source: CopySource) -> None:
        """Put all that a source names."""
        for match in matches(tree, source):
            self.changed = True
            entry = match.entry
            if source.unpack and entry.kind == "file" and is_archive(entry.host):
                self._extract(entry)
            else:
                self._put_match(tree, match, source)

    def _extract(self, archive: Entry) -> None:
        destination = self.make_folders(self._vertex.destination, plain=True)
        extract(
            archive.host,
            destination,
            Path(self._folder),
            lowers=self._below,
            owner=self._owner,
            as_root=self._as_root,
        )

    def _put_match(self, tree: MergedTree, match: Match, source: CopySource) -> None:
        destination = self._vertex.destination
        if destination.endswith("/"):
            self.make_folders(destination)
        place = self._now.resolve(normalize(destination))
        there = self._now.lookup(place, follow=False)
        if match.entry.is_directory:
            self._merge(tree, match.entry, place, there, source)
            return
        if there is not None and there.is_directory:
            place = join(place, match.name)
            there = self._now.lookup(place, follow=False)
        self.make_folders(posixpath.dirname(place))
        self._file(match.entry, place, there)

    def _file(self, entry: Entry, place: str, there: Entry | None) -> None:
        if there is not None and there.is_directory:
            raise NoSuchPath(f"path {place!r}", got="a directory", expected="a file, or nothing")
        self.put(entry, place, owner=self._owner, mode=self._mode_of(entry))

    def _mode_of(self, entry: Entry) -> int | None:
        """Permissions that ``--chmod`` gives it."""
        if not self._vertex.mode or entry.kind == "symlink":
            return None
        mode = stat.S_IMODE(entry.status.st_mode)
        return apply(self._vertex.mode, mode, directory=entry.is_directory)

    # -- directories ---------------------------------------------------------------------------

    def make_folders(self, path: str, *, plain: bool = False) -> str:
        """A directory and its parents, links resolved; those that are new get the owner.

        They get octal permissions too, unless ``plain``.
        """
        place = self._now.resolve(normalize(path))
        missing: list[str] = []
        at = place
        while (entry := self._now.lookup(at, follow=False)) is None:
            missing.append(at)
            at = posixpath.dirname(at)
        if not entry.is_directory:
            raise NoSuchPath(f"path {at!r}", got=f"a {entry.kind}", expected="a directory")
        for folder in reversed(missing):
            self.changed = True
            host = self.ensure_directory(folder)
            if self._vertex.mode.isdigit() and not plain:
                os.chmod(host, apply(self._vertex.mode, 0, directory=True) & 0o777)
            self._own(host, self._owner)
        return place

    def _merge(
        self,
        tree: MergedTree,
        source: Entry,
        place: str,
        there: Entry | None,
        rules: CopySource,
    ) -> None:
        """A directory's entries into the directory at ``place``, which is made where missing."""
        self.make_folders(place)
        target = self.ensure_directory(place)
        #: Of each directory: what was there before; None where it is new, so nothing is in it.
        before: dict[str, Entry | None] = {"": there}
        late: list[tuple[str, Entry]] = []
        for relative, entry in inside(tree, source, rules):
            parent, _, name = relative.rpartition("/")
            above = before[parent]
            existing = self._now.child(above, name) if above is not None else None
            host = f"{target}/{relative}"
            if entry.is_directory:
                self._folder_over(existing, place, relative, host)
                before[relative] = existing
                self._set_metadata(host, entry, self._owner, self._mode_of(entry))
                late.append((host, entry))
                continue
            if existing is not None:
                if existing.is_directory:
                    self._file(entry, join(place, relative), existing)
                if os.path.lexists(host):
                    os.unlink(host)
            self._put(entry, host, owner=self._owner, mode=self._mode_of(entry))
        for host, entry in reversed(late):
            times = (entry.status.st_atime_ns, entry.status.st_mtime_ns)
            os.utime(host, ns=times)

    def _folder_over(self, existing: Entry | None, place: str, relative: str, host: str) -> None:
        """Make a directory over what is there, if anything."""
        if existing is None:
            os.mkdir(host)
        elif existing.is_directory:
            self.ensure_directory(join(place, relative))
        else:
            path = join(place, relative)
            raise NoSuchPath(f"path {path!r}", got=f"a {existing.kind}", expected="a directory")
