"""Where the files of an image are: in a folder, or in a tar, which may be compressed."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from ci.engine.images.oci import ImageError
from ci.engine.images.stream import CHUNK, broken, compression_of, decompressed
from ci.engine.images.tars import BoundedTarInfo

__all__ = ["Files", "open_files"]

#: Members of an archive. More are none that any tool wrote.
_MOST_MEMBERS = 100_000
_MOST_LINKS = 10


class Files(Protocol):
    """Named files of an archive or folder."""

    def open(self, name: str) -> IO[bytes]:
        """That file's content. Raises ImageError when it is not there."""
        ...

    def has(self, name: str) -> bool:
        """Whether it is there."""
        ...


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a folder or a tar; one that is compressed is unpacked, beside it if possible.

    Raises:
        ImageError: it is neither.
    """
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        with path.open("rb") as file:
            compressed = compression_of(file.read(4))
        if not compressed:
            with tarfile.open(path, "r:", tarinfo=BoundedTarInfo) as tar:
                yield _Tar(tar, str(path))
            return
        beside = path.parent if os.access(path.parent, os.W_OK) else None
        with tempfile.TemporaryFile(dir=beside) as plain:
            with path.open("rb") as file, broken(f"image archive {path}"):
                stream = decompressed(file)
                while chunk := stream.read(CHUNK):
                    plain.write(chunk)
            plain.seek(0)
            with tarfile.open(fileobj=plain, mode="r:", tarinfo=BoundedTarInfo) as tar:
                yield _Tar(tar, str(path))
    except (tarfile.TarError, FileNotFoundError) as error:
        raise ImageError(
            f"image archive {path}", got=str(error), expected="an OCI archive or layout folder"
        ) from error


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        return self._place(name).is_file()

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._place(name).open("rb")
        except OSError as error:
            raise ImageError(f"{self._folder}/{name}", got=str(error.strerror)) from error

    def _place(self, name: str) -> Path:
        """Raises ImageError for what would be outside, by its name or by links."""
        place = self._folder / name
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if not inside or not place.resolve().is_relative_to(self._folder.resolve()):
            raise ImageError(
                f"{self._folder}", got=f"a file named {name!r}", expected="one inside the folder"
            )
        return place


class _Tar:
    def __init__(self, tar: tarfile.TarFile, subject: str) -> None:
        self._tar = tar
        self._subject = subject
        self._members: dict[str, tarfile.TarInfo] = {}
        with broken(f"image archive {subject}"):
            for number, member in enumerate(tar):
                if number == _MOST_MEMBERS:
                    raise ImageError(
                        f"image archive {subject}", got=f"more than {_MOST_MEMBERS} files"
                    )
                self._members[str(PurePosixPath(member.name))] = member

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._resolve(name)
        content = self._tar.extractfile(member) if member is not None else None
        if content is None:
            raise ImageError(f"{self._subject}: {name}", got="no such file in the archive")
        return content

    def _resolve(self, name: str) -> tarfile.TarInfo | None:
        """That file, or the one that a link leads to: Docker once wrote equal layers as links."""
        place = PurePosixPath(name)
        for _ in range(_MOST_LINKS):
            member = self._members.get(str(place))
            if member is None or member.isreg():
                return member
            if member.islnk():
                place = PurePosixPath(member.linkname)
            elif member.issym():
                parts: list[str] = []
                for part in (place.parent / member.linkname).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                place = PurePosixPath(*parts)
            else:
                return None
        return None
