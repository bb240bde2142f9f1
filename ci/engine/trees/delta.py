"""What differs between two directories, entry by entry.

A file counts as modified when git would say so: by its content, the target of a link, or whether
it can be executed. Source: Dagger's Changeset, which is defined by ``git diff``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ci.engine.store.file_digest import file_digest
from ci.engine.trees.digest import capabilities_of, owner_of
from ci.engine.trees.merged import Entry, MergedTree

__all__ = ["Delta", "Pair", "differ", "differences"]


class Pair(NamedTuple):
    """An entry before and after; a path that is on one side only has None on the other."""

    #: Relative to the directories.
    path: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Paths of what git would report, in byte order; those of directories end with a slash."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    #: With everything that was in a removed directory.
    all_removed: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Iterator[Pair]) -> Delta:
        """Of what differs."""
        added, modified, removed = [], [], []
        for path, old, new in pairs:
            if old is not None and new is not None and not _changes_type(old, new):
                if not new.is_directory and _visibly_differ(old, new):
                    modified.append(path)
                continue
            if old is not None:
                removed.append(path + ("/" if old.is_directory else ""))
            if new is not None:
                added.append(path + ("/" if new.is_directory else ""))
        return cls(
            added=tuple(sorted(added)),
            modified=tuple(sorted(modified)),
            all_removed=tuple(sorted(removed)),
        )

    @property
    def removed(self) -> tuple[str, ...]:
        """What was removed; of a directory, only itself."""
        kept: list[str] = []
        for path in self.all_removed:
            if not kept or not kept[-1].endswith("/") or not path.startswith(kept[-1]):
                kept.append(path)
        return tuple(kept)

    @property
    def is_empty(self) -> bool:
        """No file differs; directories alone do not count."""
        paths = (*self.added, *self.modified, *self.all_removed)
        return all(path.endswith("/") for path in paths)


def differences(
    old_tree: MergedTree, old: Entry | None, new_tree: MergedTree, new: Entry | None
) -> Iterator[Pair]:
    """Every entry below two directories that differs in anything but its times.

    Parents come before what is in them, in byte order; all of a directory that is on one side
    only is listed.
    """
    yield from _Comparison(old_tree, new_tree).below("", old, new)


class _Comparison:
    """One comparison of two trees."""

    def __init__(self, old: MergedTree, new: MergedTree) -> None:
        self._old = old
        self._new = new

    def below(self, prefix: str, old: Entry | None, new: Entry | None) -> Iterator[Pair]:
        """What differs in two directories, either of which may not be there."""
        if old is not None and new is not None and old.folders == new.folders:
            return
        before = _by_name(self._old, old)
        after = _by_name(self._new, new)
        for name in sorted(before.keys() | after.keys(), key=os.fsencode):
            path = f"{prefix}{name}"
            yield from self._pair(Pair(path, before.get(name), after.get(name)))

    def _pair(self, pair: Pair) -> Iterator[Pair]:
        path, old, new = pair
        if old is None or new is None or differ(old, new):
            yield pair
        old_folder = old if old is not None and old.is_directory else None
        new_folder = new if new is not None and new.is_directory else None
        if old_folder is not None or new_folder is not None:
            yield from self.below(f"{path}/", old_folder, new_folder)


def _by_name(tree: MergedTree, folder: Entry | None) -> dict[str, Entry]:
    children = [] if folder is None else tree.children(folder)
    return {entry.path.rpartition("/")[2]: entry for entry in children}


def _changes_type(old: Entry, new: Entry) -> bool:
    """One of them is a directory."""
    return old.is_directory is not new.is_directory


def differ(old: Entry, new: Entry) -> bool:
    """Whether two entries differ in type, permissions, owner, capabilities or content."""
    before, after = old.status, new.status
    if os.path.samestat(before, after) and old.host == new.host:
        return False
    if before.st_mode != after.st_mode or owner_of(old) != owner_of(new):
        return True
    if old.kind == "file" and capabilities_of(old) != capabilities_of(new):
        return True
    return not old.is_directory and _contents_differ(old, new)


def _visibly_differ(old: Entry, new: Entry) -> bool:
    """Whether git would tell two entries, which are no directories, apart."""
    before, after = old.status.st_mode, new.status.st_mode
    if stat.S_IFMT(before) != stat.S_IFMT(after):
        return True
    if stat.S_ISREG(after) and bool(before & 0o111) is not bool(after & 0o111):
        return True
    return _contents_differ(old, new)


def _contents_differ(old: Entry, new: Entry) -> bool:
    """Of two entries of one type."""
    before, after = old.status, new.status
    if old.kind == "file":
        if before.st_ino == after.st_ino and before.st_dev == after.st_dev:
            return False
        return before.st_size != after.st_size or file_digest(old.host) != file_digest(new.host)
    if old.kind == "symlink":
        return os.readlink(old.host) != os.readlink(new.host)
    return stat.S_ISCHR(after.st_mode) and before.st_rdev != after.st_rdev
