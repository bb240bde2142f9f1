"""ADD of archives: what is one, and its entries. Blocks."""

from __future__ import annotations

import bz2
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ci.engine.images.oci import ImageError
from ci.engine.images.stream import CHUNK, Readable, broken, decompressed
from ci.engine.images.tars import BoundedTarInfo
from ci.engine.images.unpack import LayerUnpacker

__all__ = ["extract", "is_archive"]


@contextmanager
def _tar(path: str, bufsize: int = CHUNK) -> Iterator[tarfile.TarFile]:
    """The tar in a file, decompressed as its first bytes say.

    Raises:
        ImageError: it is none, or is broken.
    """
    with broken("archive"), open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        content: Readable
        if magic.startswith(b"BZh"):
            content = cast("Readable", bz2.BZ2File(file))
        elif magic == b"\xfd7zXZ\x00":
            content = cast("Readable", lzma.open(file))  # noqa: SIM115 - the file is closed here
        else:
            content = decompressed(file)
        try:
            with tarfile.open(  # type: ignore[call-overload]
                fileobj=content, mode="r|", bufsize=bufsize, tarinfo=BoundedTarInfo
            ) as tar:
                yield tar
        except lzma.LZMAError as error:
            raise tarfile.ReadError(str(error)) from error


def is_archive(path: str) -> bool:
    """Whether a file begins as a tar with something in it does, compressed or not."""
    try:
        with _tar(path, tarfile.BLOCKSIZE) as tar:
            return tar.next() is not None
    except (ImageError, OSError):
        return False


def extract(
    path: str,
    destination: str,
    folder: Path,
    *,
    lowers: list[str],
    owner: tuple[int, int] | None,
    as_root: bool,
) -> None:
    """Unpack an archive into ``destination`` of the layer in ``folder``.

    Raises:
        ImageError: it is broken, or an entry would land outside the layer.
    """
    unpacker = LayerUnpacker(
        folder, lowers=[Path(lower) for lower in lowers], as_root=as_root, whiteouts=False
    )
    prefix = destination.strip("/")
    with _tar(path) as tar:
        for member in tar:
            if member.isreg():
                tar.fileobj.seek(member.offset_data)
            if prefix:
                member.name = f"{prefix}/{member.name}"
            if prefix and member.islnk():
                member.linkname = f"{prefix}/{member.linkname}"
            if owner is not None:
                member.uid, member.gid = owner
            unpacker.add(member, cast("Readable", tar.fileobj))
            tar.members.clear()  # type: ignore[attr-defined]
        unpacker.finish()
