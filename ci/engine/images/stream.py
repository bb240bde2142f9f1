"""Byte streams of layers: what compressed them is seen from their first bytes; hashed as read."""

from __future__ import annotations

import gzip
import hashlib
import io
from typing import IO, Protocol, cast

import zstandard

__all__ = ["CHUNK", "HashingReader", "Readable", "decompressed"]

#: Bytes moved at a time.
CHUNK = 1 << 20

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Readable(Protocol):
    """Anything to read bytes from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all of them when negative; empty at the end."""
        ...


class HashingReader:
    """Passes a stream through and takes its SHA-256 and length."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the source's."""
        chunk = self._source.read(size)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    def drain(self) -> None:
        """Read what is left, so that the digest is of all of it."""
        while self.read(CHUNK):
            pass

    @property
    def digest(self) -> str:
        """OCI digest of what was read so far."""
        return "sha256:" + self._hash.hexdigest()


def decompressed(source: IO[bytes]) -> IO[bytes]:
    """The stream inside ``source``, which is gzip, zstd or neither."""
    buffered = io.BufferedReader(cast("io.RawIOBase", source), CHUNK)
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
        return cast("IO[bytes]", reader)
    return buffered
