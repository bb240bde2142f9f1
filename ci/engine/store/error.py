"""StoreError: the store's folder cannot be used, and what the system's refusals mean for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.errors import CiError

__all__ = ["StoreError", "full_disk", "is_full", "refusals"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP}
#: To make a folder: below one of /proc, at a link that leads nowhere.
_UNMADE = {errno.ENOENT, errno.EEXIST}
#: A disk with less free than this, in bytes, is full: file systems keep some blocks back.
_FULL_BELOW = 1 << 20


class StoreError(CiError):
    """The store's folder cannot be used: full, read-only, another's, or damaged."""


def full_disk(root: Path) -> StoreError:
    """The error of a disk without space."""
    return StoreError(
        f"store {root}",
        got="no space left on the disk",
        hint="free some space, run `ci engine prune`, or name a folder on another disk in "
        "TOWPATH_CACHE",
    )


def is_full(root: Path) -> bool:
    """Whether the store's disk has neither space nor inodes for anything more."""
    status = os.statvfs(root)
    no_inodes = status.f_files > 0 and status.f_favail == 0
    return status.f_bavail * status.f_frsize < _FULL_BELOW or no_inodes


@contextmanager
def refusals(root: Path, *, is_made: bool = True) -> Iterator[None]:
    """Turn the operating system's refusals to read or write the store into StoreError.

    Where the store is only being made, a folder that is not there is a refusal, too.
    """
    refused = _REFUSED if is_made else _REFUSED | _UNMADE
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full_disk(root) from error
        if error.errno == errno.EFBIG:
            raise StoreError(
                f"store {root}",
                got=f"{error.strerror} ({error.filename or 'a file of it'})",
                expected="files of any size",
                hint="raise the limit (`ulimit -f`), or name a folder on another file system in "
                "TOWPATH_CACHE",
            ) from error
        if error.errno in refused:
            raise StoreError(
                f"store {root}",
                got=f"{error.strerror} ({error.filename})",
                expected="a folder that can be read and written",
                hint="name another folder in TOWPATH_CACHE",
            ) from error
        raise
