"""Folders that are a process's as long as it lives. What a killed one left, the next removes."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass

from ci.engine.store.layers import remove_tree

__all__ = ["MEMORY", "OwnFolder", "sweep"]

#: Where this machine may have a file system in memory, for what may reach no disk.
MEMORY = ("/dev/shm", "/run/shm")  # noqa: S108 - a folder of our own is made in it
_PREFIX = "towpath-"


@dataclass(frozen=True)
class OwnFolder:
    """A folder that is the process's as long as it lives."""

    path: str
    _lock: int

    @classmethod
    def make(cls, parent: str) -> OwnFolder:
        """Make one in a folder that is there."""
        while True:
            path = f"{parent}/{_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
            os.mkdir(path, 0o700)
            with suppress(FileNotFoundError):  # one who sweeps came between
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.isdir(path):  # else likewise
                    return cls(path, lock)
                os.close(lock)

    @classmethod
    def in_memory(cls, otherwise: str) -> OwnFolder:
        """Make one, in ``otherwise`` where this machine has no file system in memory."""
        return cls.make(next((path for path in MEMORY if os.path.isdir(path)), otherwise))

    def remove(self) -> None:
        """Remove it with all that is in it."""
        remove_tree(self.path)
        os.close(self._lock)


def sweep(*parents: str) -> None:
    """Remove this user's folders in these whose process is dead."""
    for parent in parents:
        with suppress(OSError), os.scandir(parent) as found:
            for item in found:
                if item.name.startswith(_PREFIX) and item.is_dir(follow_symlinks=False):
                    with suppress(OSError):
                        _remove_if_free(item)


def _remove_if_free(item: os.DirEntry[str]) -> None:
    if item.stat(follow_symlinks=False).st_uid != os.geteuid():
        return
    lock = os.open(item.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(item.path)
    finally:
        os.close(lock)
