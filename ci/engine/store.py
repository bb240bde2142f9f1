"""The store: layers, blobs, records and cache volumes in one folder that processes share.

Everything is written under a temporary name and renamed when whole, so that a crash at any
instant leaves no wrong entry. What a dead process left is removed when the next one starts.

```
v1/l/N                layers: overlay-upper folders
v1/blobs/HEX          files by sha256
v1/records/KIND/..    small JSON values
v1/volumes/HEX        cache volumes, each with HEX.lock
v1/tmp/OWNER/         of live processes: OWNER/lock is flocked while its process lives
```
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from ci.engine.layers import Layer, Snapshot, remove_tree
from ci.errors import CiError

__all__ = [
    "Record",
    "Store",
    "StoreError",
    "default_root",
    "file_sha256",
    "read_record",
    "try_lock_volume",
]

#: A JSON object. Under the key ``layers`` (at any depth) it names the layers that it keeps alive,
#: under ``blobs`` the blobs.
Record = dict[str, Any]

_SCHEMA = "v1"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._:-]{3,120}")
_READ_CHUNK = 1 << 20


class StoreError(CiError):
    """The store's folder cannot be used: full, read-only, or damaged."""


def default_root(env: dict[str, str] | None = None) -> Path:
    """``TOWPATH_CACHE``, or ``towpath`` in the XDG cache folder."""
    values = os.environ if env is None else env
    if explicit := values.get("TOWPATH_CACHE"):
        return Path(explicit)
    cache = values.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache) / "towpath"


class Store:
    """A content-addressed store. Safe for several processes and threads.

    Raises StoreError when the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute() / _SCHEMA
        self._layers = self.root / "l"
        self._blobs = self.root / "blobs"
        self._records = self.root / "records"
        self._volumes = self.root / "volumes"
        self._numbers = count()
        with self.guard():
            for folder in (self._layers, self._blobs, self._records, self._volumes):
                folder.mkdir(parents=True, exist_ok=True)
            (self.root / "tmp").mkdir(exist_ok=True)
            self._own, self._lock_fd = self._enrol()

    # -- life ----------------------------------------------------------------------------------

    def _enrol(self) -> tuple[Path, int]:
        """Make this process's temporary folder, and clear away those of dead processes."""
        with self.locked(exclusive=True):
            own = self.root / "tmp" / f"{os.getpid()}-{os.urandom(4).hex()}"
            own.mkdir(mode=0o700)
            lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for number, other in enumerate(self.owners(alive=False)):
                other.rename(own / f"dead-{number}")
        for leftover in own.glob("dead-*"):
            remove_tree(leftover)
        return own, lock

    def owners(self, *, alive: bool) -> list[Path]:
        """Temporary folders whose process lives, or does not."""
        found = []
        for folder in (self.root / "tmp").iterdir():
            try:
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                held = False
            else:
                held = not _try_lock(lock)
                os.close(lock)
            if held is alive:
                found.append(folder)
        return found

    def close(self) -> None:
        """Remove this process's temporary folder. The store cannot be used afterwards."""
        if self._lock_fd >= 0:
            remove_tree(self._own)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the store's lock: shared while a record is read, exclusive while any is removed."""
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the operating system's refusals to write here into StoreError."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StoreError(
                    f"store {self.root}",
                    got="no space left on the disk",
                    hint="free some space, run `ci engine prune`, or name a folder on another "
                    "disk in TOWPATH_CACHE",
                ) from error
            if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}:
                raise StoreError(
                    f"store {self.root}",
                    got=f"{error.strerror} ({error.filename})",
                    expected="a folder that can be written",
                    hint="name another folder in TOWPATH_CACHE",
                ) from error
            raise

    def temporary(self) -> Path:
        """A fresh folder on the store's file system; removed at the latest by the next start."""
        folder = self._own / str(next(self._numbers))
        with self.guard():
            folder.mkdir()
            os.chmod(folder, 0o755)  # noqa: S103 - a root directory, whatever the umask
        return folder

    # -- layers --------------------------------------------------------------------------------

    def add_layer(self, folder: Path) -> Layer:
        """Take over a folder in overlay-upper format, which must be on this file system."""
        with self.guard():
            layer = Layer(str(self._next_number()))
            folder.rename(self._layers / layer)
        return layer

    def layer_path(self, layer: Layer) -> Path:
        """Where a layer is. It is read-only to everyone."""
        return self._layers / layer

    def layer_paths(self, snapshot: Snapshot) -> list[str]:
        """Where the layers of a snapshot are, lowest first."""
        base = str(self._layers)
        return [f"{base}/{layer}" for layer in snapshot]

    def has_layers(self, snapshot: Snapshot) -> bool:
        """Whether all layers of a snapshot are there."""
        base = str(self._layers)
        return all(os.path.isdir(f"{base}/{layer}") for layer in snapshot)

    def layers(self) -> list[Layer]:
        """All layers that are there."""
        return [Layer(name) for name in os.listdir(self._layers) if name.isdigit()]

    def _next_number(self) -> int:
        """A number that no layer has had: numbers are never used again."""
        fd = os.open(self.root / "counter", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            text = os.read(fd, 64)
            if text.isdigit():
                number = int(text) + 1
            else:
                known = [int(name) for name in self.layers()]
                number = max(known) + 1_000_000 if known else 1
            os.pwrite(fd, b"%012d" % number, 0)
            return number
        finally:
            os.close(fd)

    # -- records -------------------------------------------------------------------------------

    def record_path(self, kind: str, key: str) -> Path:
        """Where a record is, or would be."""
        if _PLAIN_KEY.fullmatch(key):
            name = key.replace(":", "-")
        else:
            name = "x-" + blake3(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self._records / kind / name[-2:] / name

    def get(self, kind: str, key: str) -> Record | None:
        """A record, or None. Reading counts as use; one that cannot be read is removed."""
        path = self.record_path(kind, key)
        try:
            with self.locked(exclusive=False):
                text = path.read_bytes()
                os.utime(path)
            value = json.loads(text)
        except FileNotFoundError:
            return None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.drop(kind, key)
            return None
        return value

    def put(self, kind: str, key: str, value: Record) -> None:
        """Write a record; the last writer wins, readers see the old one or the new one."""
        path = self.record_path(kind, key)
        temporary = f"{self._own}/record-{next(self._numbers)}"
        with self.guard():
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(value, file, separators=(",", ":"))
            try:
                os.rename(temporary, path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.rename(temporary, path)

    def drop(self, kind: str, key: str) -> None:
        """Remove a record; one that is not there is no error."""
        self.record_path(kind, key).unlink(missing_ok=True)

    def records(self) -> Iterator[Path]:
        """All records' files."""
        for folder, _, names in os.walk(self._records):
            for name in names:
                yield Path(folder, name)

    # -- blobs ---------------------------------------------------------------------------------

    def add_blob(self, path: Path, digest: str) -> Path:
        """Take over a file whose content has this digest (``sha256:...``).

        Raises:
            StoreError: the content has another digest; the file is left alone.
        """
        got = file_sha256(path)
        if got != digest:
            raise StoreError(f"blob {path.name}", got=got, expected=digest)
        final = self._blob_path(digest)
        with self.guard():
            if path.stat().st_dev == self._blobs.stat().st_dev:
                path.rename(final)
            else:
                copy = self.temporary() / "blob"
                shutil.copyfile(path, copy)
                copy.rename(final)
                path.unlink()
        return final

    def blob(self, digest: str) -> Path | None:
        """The file with this content, or None. Asking counts as use."""
        path = self._blob_path(digest)
        try:
            with self.locked(exclusive=False):
                os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def blobs(self) -> list[Path]:
        """All blobs."""
        return list(self._blobs.iterdir())

    def _blob_path(self, digest: str) -> Path:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise StoreError("blob", got=repr(digest), expected="sha256:<64 hex digits>")
        return self._blobs / digest.removeprefix("sha256:")

    # -- volumes -------------------------------------------------------------------------------

    def volume(self, identity: str, *, prepare: Callable[[Path], None] | None = None) -> Path:
        """The folder of a cache volume. Asking counts as use.

        A missing one is made, and ``prepare`` fills it before anyone sees it.
        """
        folder = self.volume_folder(identity)
        with self.guard():
            if not folder.is_dir():
                fresh = self.temporary()
                if prepare is not None:
                    prepare(fresh)
                try:
                    fresh.rename(folder)
                except OSError as error:
                    if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                        raise
                    remove_tree(fresh)
            with self.locked(exclusive=False):
                self.volume_lock(folder).touch()
        return folder

    def volume_folder(self, identity: str) -> Path:
        """Where a cache volume is, or would be."""
        return self._volumes / blake3(identity.encode()).hexdigest()[:32]

    @staticmethod
    def volume_lock(folder: Path) -> Path:
        """The file to flock: shared while a volume is used, exclusive to have it alone."""
        return folder.with_name(folder.name + ".lock")

    def volumes(self) -> list[Path]:
        """All cache volumes."""
        return [path for path in self._volumes.iterdir() if path.suffix != ".lock"]

    def discard(self, path: Path) -> Path:
        """Move something of the store out of sight at once; ``remove_tree`` may take its time."""
        target = self._own / f"gone-{next(self._numbers)}"
        path.rename(target)
        return target


def read_record(path: Path) -> Record | None:
    """A record's value, or None when it is gone or cannot be read. Does not count as use."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextmanager
def try_lock_volume(lock: Path) -> Iterator[bool]:
    """Hold a volume alone while the body runs; False when someone uses it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_lock(fd)
    finally:
        os.close(fd)


def file_sha256(path: Path) -> str:
    """``sha256:...`` of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
