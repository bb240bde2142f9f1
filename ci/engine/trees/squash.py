"""Several layers as one, with what they hide of the layers below."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ci.engine.store.layers import is_opaque, is_whiteout, make_opaque, make_whiteout
from ci.engine.trees.builder import LayerBuilder
from ci.engine.trees.merged import Entry, MergedTree

__all__ = ["squash"]


def squash(folders: list[str], target: Path, *, as_root: bool) -> None:
    """Fill ``target`` with what ``folders`` (lowest first) amount to. Files are hard-linked."""
    stack = folders[::-1]
    writer = _Writer(target, as_root=as_root)
    writer.directory(stack[0], str(target), make=False)
    writer.fill(stack, str(target))


class _Writer(LayerBuilder):
    def __init__(self, target: Path, *, as_root: bool) -> None:
        super().__init__(MergedTree([]), target, as_root=as_root)

    def directory(self, source: str, host: str, *, make: bool = True) -> None:
        """A directory with the metadata of ``source``."""
        if make:
            os.mkdir(host)
        self._set_metadata(host, Entry("", source, os.lstat(source)), None, None)

    def fill(self, stack: list[str], target: str) -> None:
        """Merge the directories of ``stack`` (highest first)."""
        seen: set[str] = set()
        for place, folder in enumerate(stack):
            with os.scandir(folder) as found:
                items = [item for item in found if item.name not in seen]
            for item in items:
                seen.add(item.name)
                self._bring(item, stack[place + 1 :], f"{target}/{item.name}")

    def _bring(self, item: os.DirEntry[str], below: list[str], host: str) -> None:
        status = item.stat(follow_symlinks=False)
        if is_whiteout(status):
            make_whiteout(host)
        elif stat.S_ISDIR(status.st_mode):
            stack, opaque = _same_directory(item, below)
            self.directory(item.path, host)
            if opaque:
                make_opaque(host)
            self.fill(stack, host)
            os.utime(host, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            self._put(Entry("", item.path, status), host, owner=None, mode=None)


def _same_directory(item: os.DirEntry[str], below: list[str]) -> tuple[list[str], bool]:
    """The folders that make one directory, highest first, and whether they hide what is below."""
    stack = [item.path]
    if is_opaque(item.path):
        return stack, True
    for folder in below:
        path = f"{folder}/{item.name}"
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            return stack, True
        stack.append(path)
        if is_opaque(path):
            return stack, True
    return stack, False
