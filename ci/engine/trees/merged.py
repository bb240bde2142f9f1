"""The merged view of layers: what a process inside the sandbox would see, without a mount.

Folders are read as overlayfs reads them: a name in a higher folder hides the lower one, folders of
one name are merged, whiteouts hide, opaque folders hide what is below. Symbolic links are resolved
inside the root and cannot leave it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ci.engine.store.layers import is_opaque, is_whiteout
from ci.errors import CiError

__all__ = ["Entry", "MergedTree", "NoSuchPath", "SettledTree", "join", "normalize"]

_MAX_LINKS = 40

Kind = Literal["file", "directory", "symlink", "other"]


class NoSuchPath(CiError):
    """A path is not there, or is not of the type that was asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in the merged tree."""

    #: Absolute, with no symbolic link before its last part.
    path: str
    #: Where it is on the host. Of a directory: the highest of its ``folders``.
    host: str
    status: os.stat_result
    #: Of a directory: the folders that make it, highest first.
    folders: tuple[str, ...] = field(default=(), repr=False)

    @property
    def kind(self) -> Kind:
        """What it is."""
        mode = self.status.st_mode
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "directory"
        return "symlink" if stat.S_ISLNK(mode) else "other"

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory (and not a link to one)."""
        return stat.S_ISDIR(self.status.st_mode)


def normalize(path: str) -> str:
    """An absolute path without ``.``, ``..`` and doubled slashes; ``..`` stops at the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def join(folder: str, name: str) -> str:
    """``folder/name`` for an absolute, normal folder."""
    return f"/{name}" if folder == "/" else f"{folder}/{name}"


class MergedTree:
    """Reads a tree of layer folders. Its folders must not change while it is in use."""

    def __init__(self, folders: Sequence[str]) -> None:
        """Take the folders, lowest first; none at all is an empty tree."""
        self._root = tuple(reversed(folders))

    # -- looking up ----------------------------------------------------------------------------

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        """What is at ``path``, or None. ``follow`` is about a link at its end only.

        Raises:
            NoSuchPath: the links go round in circles.
        """
        return self._walk_to(path, follow=follow)[1]

    def resolve(self, path: str) -> str:
        """``path`` with every symbolic link on its way resolved; what is missing stays as it is."""
        return self._walk_to(path, follow=True)[0]

    def require(self, path: str, kind: Kind | None = None, *, follow: bool = True) -> Entry:
        """What is at ``path``. Raises NoSuchPath when it is missing or of another kind."""
        entry = self.lookup(path, follow=follow)
        if entry is None:
            raise NoSuchPath(f"path {path!r}", got="no such file or directory")
        if kind is not None and entry.kind != kind:
            raise NoSuchPath(f"path {path!r}", got=f"a {entry.kind}", expected=f"a {kind}")
        return entry

    def _walk_to(self, path: str, *, follow: bool) -> tuple[str, Entry | None]:
        """Go down from the root: the path arrived at, and what is there."""
        pending = path.split("/")[::-1]
        trail: list[tuple[str, Entry | None]] = [("/", self.root())]
        links = 0
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            at, here = trail[-1]
            child = self.child(here, part) if here is not None else None
            if child is None or child.kind != "symlink" or not (follow or any(pending)):
                trail.append((join(at, part), child))
                continue
            links += 1
            if links > _MAX_LINKS:
                raise NoSuchPath(f"path {path!r}", got="links that lead in a circle")
            target = os.readlink(child.host)
            if target.startswith("/"):
                del trail[1:]
            pending.extend(target.split("/")[::-1])
        return trail[-1]

    def root(self) -> Entry | None:
        """The root directory; None in the tree of no layers."""
        if not self._root:
            return None
        return Entry("/", self._root[0], os.lstat(self._root[0]), self._root)

    def child(self, folder: Entry, name: str) -> Entry | None:
        """The entry ``name`` of a directory, or None."""
        path = join(folder.path, name)
        found: list[str] = []
        top: os.stat_result | None = None
        for real in folder.folders:
            host = f"{real}/{name}"
            try:
                status = os.lstat(host)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
                    continue
                raise
            if not stat.S_ISDIR(status.st_mode):
                if top is None and not is_whiteout(status):
                    return Entry(path, host, status)
                break
            top = top or status
            found.append(host)
            if real != self._root[-1] and is_opaque(host):
                break
        return Entry(path, found[0], top, tuple(found)) if top is not None else None

    # -- listing -------------------------------------------------------------------------------

    def children(self, folder: Entry) -> list[Entry]:
        """The entries of a directory, by name in byte order."""
        if len(folder.folders) == 1:
            return self._only_children(folder)
        seen: dict[str, Entry | None] = {}
        for real in folder.folders:
            with os.scandir(real) as entries:
                for item in entries:
                    if item.name not in seen:
                        seen[item.name] = self._merged_child(folder, item)
        return [entry for _, entry in sorted(seen.items(), key=_by_bytes) if entry is not None]

    def _merged_child(self, folder: Entry, item: os.DirEntry[str]) -> Entry | None:
        if item.is_dir(follow_symlinks=False):
            return self.child(folder, item.name)
        status = item.stat(follow_symlinks=False)
        return (
            None if is_whiteout(status) else Entry(join(folder.path, item.name), item.path, status)
        )

    @staticmethod
    def _only_children(folder: Entry) -> list[Entry]:
        """Children of a directory that one folder makes: nothing to merge."""
        found = []
        with os.scandir(folder.folders[0]) as entries:
            for item in entries:
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone since it was listed: only the host's change
                    continue
                if is_whiteout(status):
                    continue
                folders = (item.path,) if stat.S_ISDIR(status.st_mode) else ()
                found.append(Entry(join(folder.path, item.name), item.path, status, folders))
        found.sort(key=lambda entry: os.fsencode(entry.path))
        return found

    def walk(self, folder: Entry) -> Iterator[Entry]:
        """Everything below a directory, depth first, parents before children, in byte order."""
        pending = self.children(folder)[::-1]
        while pending:
            entry = pending.pop()
            yield entry
            if entry.is_directory:
                pending.extend(self.children(entry)[::-1])


class SettledTree(MergedTree):
    """A tree that nothing is added to: remembers directories, which most lookups pass through."""

    def __init__(self, folders: Sequence[str]) -> None:
        """Take the folders, as a merged tree does."""
        super().__init__(folders)
        self._top = super().root()
        self._directories: dict[str, Entry] = {}

    def root(self) -> Entry | None:
        """The root directory; None in the tree of no layers."""
        return self._top

    def child(self, folder: Entry, name: str) -> Entry | None:
        """The entry ``name`` of a directory, or None."""
        path = join(folder.path, name)
        entry = self._directories.get(path)
        if entry is None:
            entry = super().child(folder, name)
            if entry is not None and entry.is_directory:
                self._directories[path] = entry
        return entry


def _by_bytes(item: tuple[str, Entry | None]) -> bytes:
    return os.fsencode(item[0])
