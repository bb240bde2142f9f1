"""Seals: what a layer was when it was made, to tell later whether it still is.

A seal has two parts. The *outline* is one digest of what a walk shows of each entry: path, type,
permissions, size and modification time. It is compared whenever a process first uses the layer,
at 4 microseconds an entry, and shows what was cut, removed, added or written to. The *contents* are
a digest of each file that the layer was the first to have (a hard link's are in the seal of the
layer that it came from); ``ci engine check`` reads every file and compares those too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from blake3 import blake3

from ci.engine.store.file_digest import file_digest
from ci.engine.store.records import Record

__all__ = ["Outline", "changed_contents", "contents", "inodes", "outline"]

_SECOND = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A layer as a walk shows it."""

    #: Hex BLAKE3.
    digest: str
    #: The same with times in whole seconds, as some file systems keep them in the end.
    coarse: str
    #: No file's time has a fraction of a second.
    is_coarse: bool = False
    #: How many files, folders and links there are.
    entries: int
    #: Bytes on disk that no other layer shared when it was sealed.
    bytes: int

    def record(self) -> Record:
        """As a record."""
        return asdict(self)

    def fits(self, now: Outline) -> bool:
        """Whether a walk shows now what it showed when the layer was sealed."""
        return now.digest == self.digest or (now.is_coarse and now.coarse == self.coarse)

    @staticmethod
    def of(record: Record) -> Outline:
        """From a record. Raises KeyError, TypeError for one of another shape."""
        return Outline(
            digest=str(record["digest"]),
            coarse=str(record.get("coarse", "")),
            entries=int(record["entries"]),
            bytes=int(record["bytes"]),
        )


def outline(folder: str) -> Outline:
    """Walk a layer."""
    lines: list[tuple[str, int | None]] = []
    size = 0
    for path, status in _walk(folder):
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            lines.append((f"{path}\0{mode}", None))
        else:
            lines.append((f"{path}\0{mode} {status.st_size} ", status.st_mtime_ns))
        if status.st_nlink == 1 or stat.S_ISDIR(mode):
            size += status.st_blocks * 512
    lines.sort()
    return Outline(
        digest=_digest(f"{line}{'' if time is None else time}" for line, time in lines),
        coarse=_digest(f"{line}{(time or 0) // _SECOND}" for line, time in lines),
        is_coarse=not any((time or 0) % _SECOND for _, time in lines),
        entries=len(lines),
        bytes=size,
    )


def _digest(lines: Iterable[str]) -> str:
    return blake3("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def contents(folder: str, *, go_on: Callable[[], bool] = lambda: True) -> dict[str, str] | None:
    """Digest by path of each file that nothing else shares; None when told not to go on."""
    found: dict[str, str] = {}
    for path, status in _walk(folder):
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size:
            if not go_on():
                return None
            with suppress(PermissionError):  # an ordinary user's own, without permissions
                found[path] = file_digest(folder + path)
    return found


def changed_contents(folder: str, known: dict[str, str]) -> list[str]:
    """Paths of the files that have other contents than they had, or cannot be read."""
    changed = []
    for path, digest in known.items():
        try:
            if file_digest(folder + path) != digest:
                changed.append(path)
        except OSError:
            changed.append(path)
    return changed


def inodes(folder: str) -> set[int]:
    """Of all files of a layer."""
    return {status.st_ino for _, status in _walk(folder) if stat.S_ISREG(status.st_mode)}


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Path (``/`` and on) and status of everything in a layer, in no order."""
    pending = [""]
    while pending:
        place = pending.pop()
        with suppress(PermissionError), os.scandir(folder + place) as items:
            for item in items:
                path = f"{place}/{item.name}"
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)
                yield path, status
