"""The store's blobs: files by SHA-256, read through before a process first uses one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import structlog

from ci.engine.store.error import StoreError

__all__ = ["BlobFolder", "file_sha256"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_log = structlog.get_logger(__name__)


class BlobFolder:
    """Blobs in ``folder``, which is theirs alone.

    Args:
        folder: Where they are.
        temporary: Makes an empty folder on the same file system.
        reading: Held while a blob is marked as used, so that it is not pruned meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        *,
        temporary: Callable[[], Path],
        reading: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.folder = folder
        self._temporary = temporary
        self._reading = reading
        #: Inode, size and times of those whose digest was taken.
        self._sound: dict[str, tuple[int, ...]] = {}

    def add(self, path: Path, digest: str) -> Path:
        """Take over a file whose content has this digest. Raises StoreError for another."""
        final = self.path(digest)
        got = file_sha256(path)
        if got != digest:
            raise StoreError(f"blob {path.name}", got=got, expected=digest)
        if path.stat().st_dev == self.folder.stat().st_dev:
            path.rename(final)
        else:
            copy = self._temporary() / "blob"
            shutil.copyfile(path, copy)
            copy.rename(final)
            path.unlink()
        self._sound[digest] = _stamp(final)
        return final

    def has(self, digest: str) -> bool:
        """Whether there is one of this digest. Asking counts as use; nothing is read."""
        try:
            with self._reading():
                os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def get(self, digest: str) -> Path | None:
        """The file with this content, or None; a damaged one is dropped."""
        if not self.has(digest):
            return None
        path = self.path(digest)
        try:
            if self._sound.get(digest) != _stamp(path) and not self.is_sound(path):
                self.drop(path)
                return None
            self._sound[digest] = _stamp(path)
        except FileNotFoundError:
            return None
        return path

    @staticmethod
    def is_sound(path: Path) -> bool:
        """Whether a blob's content has the digest that names it. Reads all of it."""
        return file_sha256(path) == f"sha256:{path.name}"

    @staticmethod
    def drop(path: Path) -> None:
        """Remove a damaged blob."""
        _log.warning("store.damaged", what=f"blob {path.name[:12]}", done="dropped, to be had anew")
        path.unlink(missing_ok=True)

    def all(self) -> list[Path]:
        """All blobs."""
        found = []
        with suppress(FileNotFoundError):
            found = list(self.folder.iterdir())
        return found

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be. Raises StoreError for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError("blob", got=repr(digest), expected="sha256:<64 hex digits>")
        return self.folder / digest.removeprefix("sha256:")


def file_sha256(path: Path) -> str:
    """``sha256:...`` of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when the content does. Not the times that ``has`` sets."""
    status = path.stat()
    return status.st_ino, status.st_size
