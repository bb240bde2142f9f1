"""Overlay-format layer folders into tars: the same folder gives the same bytes on any machine."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ci.engine.store.layers import OWNER_XATTR, is_opaque, is_whiteout

__all__ = ["EPOCH", "pack_layer"]

#: Seconds since 1970 of every entry where SOURCE_DATE_EPOCH says nothing else: 1 January 1980,
#: the first day that a ZIP file, and so a Python wheel, can name.
EPOCH = 315532800

_XATTR = "SCHILY.xattr."


def pack_layer(folder: Path, target: IO[bytes], *, epoch: int = EPOCH) -> None:
    """Write ``folder`` as an OCI layer tar.

    Entries are sorted, owners numeric, times all ``epoch``, whiteouts in OCI's form.

    Args:
        folder: In overlay format, as ``ci.engine.images.unpack`` makes it and an exec leaves it.
        target: Where the plain tar goes.
        epoch: Seconds since 1970.
    """
    inodes: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, path in _walk(folder, ""):
            # Or a layer of a million files fills the memory.
            tar.members.clear()  # type: ignore[attr-defined]
            status = path.lstat()
            if is_whiteout(status):
                head, _, last = name.rpartition("/")
                tar.addfile(_marker(f"{head}/.wh.{last}" if head else f".wh.{last}", epoch))
                continue
            if stat.S_ISSOCK(status.st_mode):
                continue
            entry = _entry(name, path, status, inodes)
            entry.mtime = epoch
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
            if entry.isdir() and is_opaque(str(path)):
                tar.addfile(_marker(f"{name}/.wh..wh..opq", epoch))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Every entry, a folder before what is in it, names in byte order."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        name = f"{prefix}{entry.name}"
        yield name, Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{name}/")


def _marker(name: str, epoch: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = epoch
    return entry


def _entry(
    name: str, path: Path, status: os.stat_result, inodes: dict[tuple[int, int], str]
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(status.st_mode)
    first = name
    if status.st_nlink > 1:
        first = inodes.setdefault((status.st_dev, status.st_ino), name)
    if stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif first != name:
        entry.type, entry.linkname = tarfile.LNKTYPE, first
    elif stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif stat.S_ISFIFO(status.st_mode):
        entry.type = tarfile.FIFOTYPE
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
    else:
        entry.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    xattrs = {
        attribute: os.getxattr(path, attribute, follow_symlinks=False)
        for attribute in sorted(os.listxattr(path, follow_symlinks=False))
    }
    entry.uid, entry.gid = _owner(status, xattrs)
    if entry.type != tarfile.LNKTYPE:
        entry.pax_headers = _kept(xattrs)
    return entry


def _owner(status: os.stat_result, xattrs: dict[str, bytes]) -> tuple[int, int]:
    """As noted, else the file's; what an ordinary user owns is root's inside the image."""
    if noted := xattrs.get(OWNER_XATTR):
        noted_uid, _, noted_gid = noted.partition(b":")
        return int(noted_uid), int(noted_gid)
    own_uid, own_gid = os.geteuid(), os.getegid()
    uid = 0 if status.st_uid == own_uid else status.st_uid
    return uid, (0 if own_uid and status.st_gid == own_gid else status.st_gid)


def _kept(xattrs: dict[str, bytes]) -> dict[str, str]:
    """Capabilities and users' attributes; never overlayfs's or ours, nor the host's labels."""
    return {
        _XATTR + name: value.decode("utf-8", "surrogateescape")
        for name, value in xattrs.items()
        if name == "security.capability"
        or (name.startswith("user.") and not name.startswith(("user.overlay.", OWNER_XATTR)))
    }
