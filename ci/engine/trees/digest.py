"""Content digests: what a tree is, whatever made it.

The digest of a tree takes in, of each entry in byte order: its path, type, permissions, owner when
that is not root, and content with file capabilities, link target or device number. Times are no
part of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from blake3 import blake3

from ci.engine.store.file_digest import file_digest
from ci.engine.store.layers import OWNER_XATTR
from ci.engine.trees.merged import Entry

__all__ = [
    "VERSION",
    "TreeHasher",
    "capabilities_of",
    "entry_head",
    "lone_file_digest",
    "owner_of",
]

#: Rises with what a digest takes in: those that were recorded before are made again.
VERSION = 2
_ONE_UID_OWNER = os.geteuid()


def owner_of(entry: Entry) -> tuple[int, int]:
    """(uid, gid) of an entry: as recorded beside it, else as the file system has it.

    What belongs to the engine's own user on disk belongs to root in a sandbox.
    """
    status = entry.status
    if _ONE_UID_OWNER == 0 and (status.st_uid or status.st_gid):
        return status.st_uid, status.st_gid
    if not stat.S_ISLNK(status.st_mode):
        try:
            uid, gid = os.getxattr(entry.host, OWNER_XATTR, follow_symlinks=False).split(b":")
            return int(uid), int(gid)
        except OSError:
            pass
    return 0, 0


def capabilities_of(entry: Entry) -> bytes:
    """What a file gives to a program that is started from it; empty for most.

    The user namespace that they count in is left out: it is one of this machine. Source:
    ``struct vfs_ns_cap_data`` in capabilities(7) and linux/capability.h.
    """
    try:
        value = os.getxattr(entry.host, "security.capability", follow_symlinks=False)
    except OSError:
        return b""
    is_effective, sets = value[0] & 1, value[4:20]
    return bytes([is_effective]) + sets


def entry_head(path: str, entry: Entry) -> bytes:
    """Everything of an entry's digest but a file's content."""
    mode = entry.status.st_mode
    uid, gid = owner_of(entry)
    owner = f"{uid}:{gid}" if uid or gid else ""
    rest: bytes = b""
    if stat.S_ISLNK(mode):
        rest = os.fsencode(os.readlink(entry.host))
    elif stat.S_ISREG(mode):
        rest = b"%d" % entry.status.st_size
        if capabilities := capabilities_of(entry):
            rest += b" " + capabilities.hex().encode()
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        rest = b"%d" % entry.status.st_rdev
    # A link's own permissions mean nothing and differ between file systems.
    shown = stat.S_IFMT(mode) if stat.S_ISLNK(mode) else mode
    return b"\0".join([os.fsencode(path), b"%o" % shown, owner.encode(), rest, b"\n"])


class TreeHasher:
    """Adds up the digest of a tree, entry by entry, in the order of ``patterns.select``."""

    def __init__(self, digest_of: Callable[[Entry], str] | None = None) -> None:
        self._digest_of = digest_of or (lambda entry: file_digest(entry.host))
        self._hasher = blake3()

    def add(self, path: str, entry: Entry) -> None:
        """Take in one entry; ``path`` is relative to the tree's root."""
        self._hasher.update(entry_head(path, entry))
        if entry.kind == "file":
            self._hasher.update(self._digest_of(entry).encode())

    def add_all(self, entries: Iterable[tuple[str, Entry]]) -> TreeHasher:
        """Take in a whole tree."""
        for path, entry in entries:
            self.add(path, entry)
        return self

    def hexdigest(self) -> str:
        """Hex BLAKE3."""
        return self._hasher.hexdigest()


def lone_file_digest(entry: Entry) -> str:
    """Content digest of one file, whatever its name."""
    return TreeHasher().add_all([("", entry)]).hexdigest()
