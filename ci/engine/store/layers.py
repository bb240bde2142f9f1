"""Layers: folders in overlay-upper format, numbered, and the words of that format."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import NewType

__all__ = [
    "EMPTY",
    "OWNER_XATTR",
    "Layer",
    "Snapshot",
    "is_opaque",
    "is_whiteout",
    "make_opaque",
    "make_whiteout",
    "remove_tree",
]

#: Name of a layer's folder in the store: a short number, because overlayfs takes all of them in
#: one page of mount options.
Layer = NewType("Layer", str)

#: Layers of a file tree, lowest first.
Snapshot = tuple[Layer, ...]

EMPTY: Snapshot = ()

#: ``uid:gid`` of a file whose owner the file system cannot hold (one-uid sandboxes).
OWNER_XATTR = "user.towpath.owner"

_OPAQUE = "user.overlay.opaque"


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry hides what lower layers have by its name: a character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: str) -> bool:
    """Whether a folder of a layer hides what lower layers have in it."""
    try:
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def make_whiteout(path: str) -> None:
    """Hide ``path`` of the lower layers. Needs no privilege since Linux 5.8."""
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def make_opaque(folder: str) -> None:
    """Hide what lower layers have in ``folder``."""
    os.setxattr(folder, _OPAQUE, b"y", follow_symlinks=False)


def remove_tree(path: Path | str) -> None:
    """Remove a folder or file with all that is in it; what is not there is no error.

    Folders without permissions (overlay's ``work/work``, read-only modules) go too.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
        return
    if os.geteuid() != 0:
        _open_up(str(path))
        for folder, names, _ in os.walk(path):
            for name in names:
                _open_up(os.path.join(folder, name))
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _open_up(folder: str) -> None:
    status = os.lstat(folder)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
        os.chmod(folder, 0o700)
