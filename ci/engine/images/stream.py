"""Byte streams of layers: what compressed them is seen from their first bytes; hashed as read."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast

import zstandard

from ci.engine.images.oci import ImageError

__all__ = ["CHUNK", "HashingReader", "Readable", "broken", "compression_of", "decompressed"]

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


class _Rewound:
    """A stream with the bytes that were read from its beginning put back."""

    def __init__(self, start: bytes, rest: Readable) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._rest.read(size)
        if size < 0:
            chunk, self._start = self._start + self._rest.read(), b""
            return chunk
        chunk, self._start = self._start[:size], self._start[size:]
        return chunk


def compression_of(start: bytes) -> str:
    """``gzip``, ``zstd`` or empty, by the first four bytes of a stream."""
    if start.startswith(_GZIP):
        return "gzip"
    return "zstd" if start.startswith(_ZSTD) else ""


def decompressed(source: Readable) -> Readable:
    """The stream inside ``source``, which is gzip, zstd or neither."""
    start = source.read(4)
    whole = _Rewound(start, source)
    match compression_of(start):
        case "gzip":
            return cast("Readable", gzip.GzipFile(fileobj=cast("IO[bytes]", whole)))
        case "zstd":
            reader = zstandard.ZstdDecompressor().stream_reader(
                cast("IO[bytes]", whole), read_across_frames=True
            )
            return cast("Readable", reader)
    return whole


@contextmanager
def broken(subject: str) -> Iterator[None]:
    """Turn what is wrong with a tar, or with what compressed it, into ImageError.

    What the operating system says passes.
    """
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageError(subject, got=f"a broken tar ({error})", expected="a whole one") from error
