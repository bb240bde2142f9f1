"""Tars that others made: headers of any size, which the standard library would read whole."""

from __future__ import annotations

import math
import tarfile
from typing import IO

from ci.engine.images.oci import ImageError
from ci.engine.images.stream import CHUNK, Readable

__all__ = ["BoundedTarInfo", "Parts", "check_entry", "copy_content", "parts_of"]

#: Of an extended header, in bytes: a name and all attributes fit. Linux limits each to 64 kB.
_MAX_HEADER = 1 << 20
#: Names in a path. Programs that go down a tree do so by calling themselves.
_MAX_DEPTH = 256
_MAX_ID = 2**32 - 2
#: Seconds since 1970: what every file system holds.
_MAX_TIME = 2**33

Parts = tuple[str, ...]

_EXTENDED = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)


class BoundedTarInfo(tarfile.TarInfo):
    """An entry whose extended headers are refused where they are larger than any that is needed."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Where the standard library lets subclasses process a header in their own way."""
        if self.type in _EXTENDED and not 0 <= self.size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        try:
            member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        except (ValueError, OverflowError, IndexError, RecursionError) as error:
            raise tarfile.ReadError(f"a header that cannot be read ({error})") from error
        if member.size < 0:
            raise tarfile.ReadError("a file of negative size")
        return member


def copy_content(member: tarfile.TarInfo, tar: Readable, target: IO[bytes]) -> None:
    """Copy a file's content; holes of a sparse one stay holes, however large they claim to be.

    Args:
        member: The file.
        tar: Stands at the beginning of the file's data.
        target: An empty file.

    Raises:
        tarfile.ReadError: the tar ends within the file.
    """
    spans: list[tuple[int, int]] = [(0, member.size)]
    if member.issparse():
        spans = getattr(member, "sparse", spans)
    for start, length in spans:
        target.seek(start)
        left = length
        while left > 0:
            chunk = tar.read(min(CHUNK, left))
            if not chunk:
                raise tarfile.ReadError("a file that ends early")
            target.write(chunk)
            left -= len(chunk)
    target.truncate(member.size)


def check_entry(member: tarfile.TarInfo) -> None:
    """Numbers that no file has.

    Raises:
        ImageError: there is one.
    """
    wrong = [
        name
        for name, value, most in (
            ("owner", member.uid, _MAX_ID),
            ("group", member.gid, _MAX_ID),
            ("mode", member.mode, 0xFFFFF),
            ("major number", member.devmajor, 0xFFF),
            ("minor number", member.devminor, 0xFFFFF),
        )
        if not 0 <= value <= most
    ]
    if not (math.isfinite(member.mtime) and abs(member.mtime) <= _MAX_TIME):
        wrong.append("time")
    if wrong:
        raise ImageError(
            f"layer entry {member.name[:200]!r}",
            got="an impossible " + ", ".join(wrong),
            expected="what a file can have",
        )


def parts_of(name: str) -> Parts:
    """The names in an entry's path; an absolute one is taken from the root.

    Raises:
        ImageError: it leads upwards, or very far down.
    """
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts:
        raise ImageError("layer entry", got=repr(name[:200]), expected="a path without ..")
    if len(parts) > _MAX_DEPTH:
        raise ImageError(
            f"layer entry {name[:100]!r}...",
            got=f"a path of {len(parts)} names",
            expected=f"at most {_MAX_DEPTH}",
        )
    return parts
