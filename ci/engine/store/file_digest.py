"""The digest of a file's content, by which it is known again."""

from __future__ import annotations

import os

from blake3 import blake3

__all__ = ["file_digest"]

_CHUNK = 1 << 17


def file_digest(path: str) -> str:
    """Hex BLAKE3 of a file's content."""
    hasher = blake3()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while chunk := os.read(fd, _CHUNK):
            hasher.update(chunk)
    finally:
        os.close(fd)
    return hasher.hexdigest()
