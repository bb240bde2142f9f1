"""The store: layers, blobs, records and cache volumes in one folder that processes share.

Everything is written under a temporary name and renamed when whole, so that a crash at any
instant leaves no wrong entry. What a dead process left is removed when the next one starts.

```
v1/format             what wrote the rest
v1/l/N                layers: overlay-upper folders, each with N.seal and N.contents
v1/blobs/HEX          files by sha256
v1/records/KIND/..    small JSON values
v1/volumes/HEX        cache volumes, each with HEX.lock
v1/claims/HEX         flocked while a process makes what others may want too
v1/tmp/OWNER/         of live processes: OWNER/lock is flocked while its process lives
```

Nothing damaged is served. A record is compared with its digest at each reading, a blob when a
process first asks for it (one reading of it), a layer's outline when a process first uses it
(4 microseconds an entry); what does not match is dropped, and so made again. What leaves times and
sizes as they were, such as a bit that the disk lost, is found by ``ci engine check`` alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from ci.engine.store.blob_folder import BlobFolder, file_sha256
from ci.engine.store.error import StoreError, refusals
from ci.engine.store.format import require_format, require_owner, write_tag
from ci.engine.store.layer_folder import LayerFolder
from ci.engine.store.layers import Layer, Snapshot, remove_tree
from ci.engine.store.orphans import end_orphans
from ci.engine.store.own_folder import MEMORY, sweep
from ci.engine.store.placement import spread
from ci.engine.store.records import Record, decode, encode

__all__ = [
    "Record",
    "Store",
    "StoreError",
    "file_sha256",
    "try_lock_volume",
]

_SCHEMA = "v1"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._:-]{3,120}")
#: How long the end of a session waits for new layers to be read.
_SETTLE_SECONDS = 1.0


class Store:
    """A content-addressed store. Safe for several processes and threads.

    Raises StoreError when the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute() / _SCHEMA
        self._records = self.root / "records"
        self._volumes = self.root / "volumes"
        self._claims = self.root / "claims"
        # ext4 spreads folders by their names: those of all processes are not to be in one place.
        self._numbers = count(int.from_bytes(os.urandom(2)))
        #: Some process had died.
        self._buried = False
        with refusals(self.root, is_made=False):
            made = not root.exists()
            layers, blobs = self.root / "l", self.root / "blobs"
            for folder in (layers, blobs, self._records, self._volumes, self._claims):
                folder.mkdir(parents=True, exist_ok=True)
            if made:
                write_tag(root)
            require_owner(self.root)
            # Layers hold programs of other users with their setuid bits, and device nodes.
            if stat.S_IMODE(self.root.stat().st_mode) & 0o077:
                self.root.chmod(0o700)
            require_format(self.root)
            (self.root / "tmp").mkdir(exist_ok=True)
            self._own, self._lock_fd = self._enrol()
            self.bury()
        self._layers = LayerFolder(layers, write=self._write, discard=self.discard)
        self._blobs = BlobFolder(
            blobs, temporary=self.temporary, reading=lambda: self.locked(exclusive=False)
        )

    # -- life ----------------------------------------------------------------------------------

    def _enrol(self) -> tuple[Path, int]:
        """Make this process's temporary folder."""
        with self.locked(exclusive=True):
            own = self.root / "tmp" / f"{os.getpid()}-{os.urandom(4).hex()}"
            own.mkdir(mode=0o700)
            spread(own)
            lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return own, lock

    def bury(self, *, search: bool = False) -> None:
        """Clear away what dead processes left: folders, claims, processes that wait for them.

        For the latter all processes are looked at, where there is one that died, or to ``search``.
        """
        with self.locked(exclusive=True):
            dead = self.owners(alive=False)
            moved = [self.discard(folder) for folder in dead]
        self._buried = self._buried or bool(dead)
        if dead or search:
            self._end_orphans()
        for leftover in moved:
            remove_tree(leftover)
        self.drop_claims()
        sweep(*MEMORY)

    def _end_orphans(self) -> None:
        def living() -> set[str]:
            return {folder.name for folder in self.owners(alive=True)}

        end_orphans(str(self.root), living)

    @property
    def owner(self) -> str:
        """A name of this process, and this store in it, that no other has."""
        return f"{self.root}:{self._own.name}"

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
            self._layers.settle(_SETTLE_SECONDS)
            self._layers.close()
            # Again: what one that was killed was starting may have held its lock, or come up since.
            self.bury(search=self._buried)
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

    def guard(self) -> AbstractContextManager[None]:
        """Turn the operating system's refusals to read or write here into StoreError."""
        return refusals(self.root)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all; its folder is made where it is missing."""
        temporary = f"{self._own}/file-{next(self._numbers)}"
        with self.guard():
            with open(temporary, "wb") as file:
                file.write(content)
            try:
                os.rename(temporary, path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.rename(temporary, path)

    def temporary(self) -> Path:
        """A fresh folder on the store's file system; removed at the latest by the next start."""
        folder = self._own / str(next(self._numbers))
        with self.guard():
            folder.mkdir()
            os.chmod(folder, 0o755)  # noqa: S103 - a root directory, whatever the umask
        return folder

    # -- layers --------------------------------------------------------------------------------

    def add_layer(self, folder: Path, *, read: bool = True) -> Layer:
        """Take over a folder in overlay-upper format, which must be on this file system.

        ``read``: its files are read soon, for ``ci engine check`` to compare.
        """
        with self.guard():
            return self._layers.add(folder, read=read)

    @property
    def layer_folder(self) -> LayerFolder:
        """For who looks after layers."""
        return self._layers

    @property
    def blob_folder(self) -> BlobFolder:
        """For who looks after blobs."""
        return self._blobs

    def layer_path(self, layer: Layer) -> Path:
        """Where a layer is. It is read-only to everyone."""
        return self._layers.folder / layer

    def layer_paths(self, snapshot: Snapshot) -> list[str]:
        """Where the layers of a snapshot are, lowest first."""
        return self._layers.paths(snapshot)

    def has_layers(self, snapshot: Snapshot) -> bool:
        """Whether all layers of a snapshot are there; one that is damaged is dropped."""
        with self.guard():
            return self._layers.has(snapshot)

    def layers(self) -> list[Layer]:
        """All layers that are there."""
        return self._layers.layers()

    # -- records -------------------------------------------------------------------------------

    def record_path(self, kind: str, key: str) -> Path:
        """Where a record is, or would be."""
        if _PLAIN_KEY.fullmatch(key):
            name = key.replace(":", "-")
        else:
            name = "x-" + blake3(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self._records / kind / name[-2:] / name

    def get(self, kind: str, key: str) -> Record | None:
        """A record, or None. Reading counts as use; one that is damaged is removed."""
        path = self.record_path(kind, key)
        try:
            with self.guard(), self.locked(exclusive=False):
                text = path.read_bytes()
                os.utime(path)
        except FileNotFoundError:
            return None
        value = decode(text)
        if value is None:
            self.drop(kind, key)
        return value

    def put(self, kind: str, key: str, value: Record) -> None:
        """Write a record; the last writer wins, readers see the old one or the new one."""
        self._write(self.record_path(kind, key), encode(value))

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
        with self.guard():
            return self._blobs.add(path, digest)

    def has_blob(self, digest: str) -> bool:
        """Whether there is a blob of this digest. Asking counts as use; nothing is read."""
        return self._blobs.has(digest)

    def blob(self, digest: str) -> Path | None:
        """The file with this content, or None; a damaged one is dropped. Asking counts as use.

        The first time in a process it reads all of the file.
        """
        with self.guard():
            return self._blobs.get(digest)

    def blobs(self) -> list[Path]:
        """All blobs."""
        return self._blobs.all()

    # -- claims --------------------------------------------------------------------------------

    def claim(self, name: str) -> int | None:
        """Claim the making of something, among processes: a descriptor that holds it while open.

        None while another has it. ``release`` it; a killed process's is free at once.
        """
        path = self._claims / blake3(name.encode()).hexdigest()[:32]
        with self.guard():
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _try_lock(fd) and _is_at(fd, path):
            return fd
        os.close(fd)
        return None

    def release(self, fd: int) -> None:
        """Give up a claim."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        with suppress(FileNotFoundError):
            os.unlink(path)  # whoever waits for it sees that, and opens another
        os.close(fd)

    def drop_claims(self) -> None:
        """Remove the files of claims that nobody holds."""
        for path in self._claims.iterdir():
            with suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                if _try_lock(fd) and _is_at(fd, path):
                    path.unlink()
                os.close(fd)

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
                with self.locked(exclusive=True):  # a rename would replace one that is empty
                    if not folder.is_dir():
                        fresh.rename(folder)
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


@contextmanager
def try_lock_volume(lock: Path) -> Iterator[bool]:
    """Hold a volume alone while the body runs; False when someone uses it."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_lock(fd)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Whether an open file is the one that stands at ``path`` now."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
