"""Where a file system places what is made in a folder: a hint, which only some can take."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

__all__ = ["spread"]

# The numbers of linux/fs.h and asm-generic/ioctl.h; the size in them is that of a C long.
_SIZE = struct.calcsize("l") << 16
_GET_FLAGS = 2 << 30 | _SIZE | ord("f") << 8 | 1
_SET_FLAGS = 1 << 30 | _SIZE | ord("f") << 8 | 2
_UNRELATED = 0x00020000


def spread(folder: Path) -> None:
    """Say that the folders made in this one have nothing to do with each other.

    ext4 then gives each of them a part of the disk where little is. In one part for all of them
    it would, where it has no journal, look at every inode that was freed there in the last minutes
    for each new file: up to a millisecond a file. Source: ``T`` in chattr(1).
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # another file system
            (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GET_FLAGS, struct.pack("i", 0)))
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i", flags | _UNRELATED))
    finally:
        os.close(fd)
