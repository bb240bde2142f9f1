"""Images unpacked from OCI archives, one folder a digest, shared by the environments of a user."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from ci.deploy.journal import write_whole
from ci.deploy.protocol import Runtime
from ci.errors import CiError

__all__ = ["UnpackedImage", "UnpackedImages"]


@dataclass(frozen=True)
class UnpackedImage:
    """A root file system and the OCI image config that goes with it."""

    rootfs: Path
    config: Mapping[str, Any]


class UnpackedImages:
    """A folder of unpacked images. What is under a digest is whole and is never changed."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.folder = folder
        self.runtime = runtime

    async def ensure(self, digest: str, archive: Path) -> UnpackedImage:
        """The image, unpacked now if it was not before.

        Raises:
            CiError: the archive is missing, or holds another image.
        """
        return await anyio.to_thread.run_sync(self._ensure, digest, archive)

    def _ensure(self, digest: str, archive: Path) -> UnpackedImage:
        place = self._place(digest)
        if not (place / "config.json").exists():
            with self._locked():
                if not (place / "config.json").exists():
                    self._unpack(digest, archive, place)
        return self.read(digest)

    def _unpack(self, digest: str, archive: Path, place: Path) -> None:
        check_digest(archive, digest)
        fresh = place.with_name(f".{place.name}")
        remove_tree(fresh)
        fresh.mkdir()
        config = self.runtime.unpack(archive, fresh / "rootfs")
        write_whole(fresh / "config.json", json.dumps(config))
        fresh.rename(place)

    def read(self, digest: str) -> UnpackedImage:
        """An image that was unpacked before.

        Raises:
            CiError: it was not, or was pruned.
        """
        place = self._place(digest)
        try:
            config = json.loads((place / "config.json").read_text())
        except FileNotFoundError:
            raise CiError(
                f"image {digest} is not unpacked any more", hint="deliver the release again"
            ) from None
        return UnpackedImage(place / "rootfs", config)

    def prune(self, needed: Collection[str]) -> None:
        """Remove the images whose digests are not among those needed."""
        if not self.folder.exists():
            return
        keep = {self._place(digest).name for digest in needed} | {"lock"}
        with self._locked():
            for path in self.folder.iterdir():
                if path.name not in keep:
                    remove_tree(path)

    def _place(self, digest: str) -> Path:
        return self.folder / digest.partition(":")[2]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def check_digest(archive: Path, digest: str) -> None:
    """The archive's index names that manifest.

    Raises:
        CiError: it does not, or there is no such archive.
    """
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("index.json")
            index = json.load(member) if member else {}
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        raise CiError(
            f"{archive}: image not read", got=str(error), expected="an OCI archive"
        ) from error
    found = [manifest.get("digest") for manifest in index.get("manifests", [])]
    if digest not in found:
        raise CiError(f"{archive}: wrong image", got=", ".join(found) or "none", expected=digest)


def remove_tree(path: Path) -> None:
    """Remove a folder whose content may forbid it (images have folders without write access)."""
    if not path.exists():
        return
    if os.geteuid() != 0:
        for folder, _, _ in os.walk(path):
            if not Path(folder).is_symlink():
                Path(folder).chmod(0o700)
    shutil.rmtree(path)
