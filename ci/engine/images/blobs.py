"""Layers as blobs: packed and compressed once, then kept in the store beside what they are of."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from ci.engine.images.oci import Descriptor, layer_media_type
from ci.engine.images.pack import EPOCH, pack_layer
from ci.engine.images.stream import CHUNK, broken, decompressed
from ci.engine.store.layers import Layer
from ci.engine.store.store import Store
from ci.errors import ConfigError

__all__ = ["COMPRESSIONS", "Blob", "StoredBlobs", "diff_id", "pack_blob"]

#: How a layer may be compressed.
COMPRESSIONS = ("gzip", "zstd", "uncompressed")

#: In keys of the store: of the tar that a layer came as, whatever the time that others are of.
_ORIGIN = "origin"
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Blob:
    """A layer's tar as it is transferred: digest and size in bytes of the compressed tar."""

    digest: str
    size: int
    #: Digest of the uncompressed tar.
    diff_id: str
    compression: str

    def descriptor(self, *, docker: bool = False) -> Descriptor:
        """As a manifest lists it."""
        suffix = "" if self.compression == "uncompressed" else self.compression
        return Descriptor(layer_media_type(suffix, docker=docker), self.digest, self.size)


def pack_blob(folder: Path, target: Path, *, compression: str, epoch: int = EPOCH) -> Blob:
    """Pack and compress a layer folder into the file ``target``.

    The same folder gives the same bytes with the same version of zlib or libzstd.

    Raises:
        ConfigError: there is no such compression.
    """
    with target.open("wb") as file:
        outside = _Hashing(file)
        compress, finish = _compressor(compression, outside)
        inside = _Hashing(compress)
        pack_layer(folder, cast("IO[bytes]", inside), epoch=epoch)
        finish()
    return Blob(outside.digest, outside.size, inside.digest, compression)


class StoredBlobs:
    """Blobs of a store's layers. Layers never change, nor are their numbers used again."""

    def __init__(self, store: Store, *, epoch: int = EPOCH) -> None:
        self._store = store
        self._epoch = epoch

    def blob(self, layer: Layer, compression: str = "") -> tuple[Blob, Path]:
        """The layer's blob and the file that it is in, which is the store's.

        A layer that came from a registry or an archive keeps the tar that it came as, and unless
        another compression is forced, its blob. Others are packed, and compressed by gzip unless
        another is forced.
        """
        origin = self._kept(f"{layer}-{_ORIGIN}")
        if origin is not None and compression in {"", origin[0].compression}:
            return origin
        wanted = compression or "gzip"
        key = f"{layer}-{wanted}-{_ORIGIN if origin else self._epoch}"
        kept = self._kept(key)
        if kept is not None:
            return kept
        target = self._store.temporary() / "blob"
        if origin is not None:
            made = _compress_again(origin[1], target, compression=wanted)
        else:
            folder = self._store.layer_path(layer)
            made = pack_blob(folder, target, compression=wanted, epoch=self._epoch)
        path = self._store.add_blob(target, made.digest)
        self._note(key, made)
        return made, path

    def note_origin(self, layer: Layer, blob: Blob) -> None:
        """Remember the blob that a layer came as, which the store has."""
        self._note(f"{layer}-{_ORIGIN}", blob)

    def _note(self, key: str, blob: Blob) -> None:
        self._store.put("blob", key, {"blobs": [blob.digest], "blob": asdict(blob)})

    def _kept(self, key: str) -> tuple[Blob, Path] | None:
        record = self._store.get("blob", key)
        path = self._store.blob(record["blobs"][0]) if record else None
        return (Blob(**record["blob"]), path) if record and path else None


def _compress_again(source: Path, target: Path, *, compression: str) -> Blob:
    """The same tar, compressed otherwise.

    Raises:
        ConfigError: there is no such compression.
    """
    with source.open("rb") as blob, target.open("wb") as file:
        outside = _Hashing(file)
        compress, finish = _compressor(compression, outside)
        inside = _Hashing(compress)
        with broken(f"blob {source.name}"):
            stream = decompressed(blob)
            while chunk := stream.read(CHUNK):
                inside.write(chunk)
        finish()
    return Blob(outside.digest, outside.size, inside.digest, compression)


def diff_id(store: Store, layer: Layer) -> str:
    """``sha256:...`` of the tar that ``pack_layer`` makes of this layer, taken once."""
    known = store.get("diff", f"layer-{layer}")
    if known is not None:
        return str(known["diff_id"])
    sink = _Hashing(lambda _: None)
    pack_layer(store.layer_path(layer), cast("IO[bytes]", sink))
    store.put("diff", f"layer-{layer}", {"diff_id": sink.digest})
    return sink.digest


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Hashing:
    """A file to write to: takes the SHA-256 and length of what it passes on."""

    def __init__(self, target: _Writable | Callable[[bytes], object]) -> None:
        self._pass_on = target if callable(target) else target.write
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._pass_on(data)
        return len(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def _compressor(
    name: str, target: _Hashing
) -> tuple[Callable[[bytes], object], Callable[[], object]]:
    """What to call with each piece, and at the end."""
    if name == "uncompressed":
        return target.write, lambda: None
    if name == "gzip":
        # 31: a gzip header, which zlib writes without a time or a name.
        gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
        return (lambda data: target.write(gzip.compress(data))), (
            lambda: target.write(gzip.flush())
        )
    if name == "zstd":
        zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
        return (lambda data: target.write(zstd.compress(data))), (
            lambda: target.write(zstd.flush())
        )
    raise ConfigError("layer compression", got=repr(name), expected=", ".join(COMPRESSIONS))


def stored_layer(store: Store | None, folder: Path) -> Layer | None:
    """The layer that ``folder`` is in that store, or None."""
    if store is None:
        return None
    layer = Layer(folder.name)
    return layer if os.fspath(store.layer_path(layer)) == os.fspath(folder) else None
