"""What a store takes up, and making it smaller while others use it.

What a living process has used since it started is never removed: its own results may build on it.
Of the rest, what was used longest ago goes first. Others wait only while it is decided what goes,
not while sizes are taken or files removed.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ci.engine.store.layers import Layer, remove_tree
from ci.engine.store.records import read_record
from ci.engine.store.store import Store, try_lock_volume

__all__ = ["Pruned", "Usage", "prune", "usage"]

#: Files that layers share are counted with one of them, so what goes may free less than it seems.
_PASSES = 3


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What is in a store. Sizes are in bytes on disk; a hard-linked file counts once."""

    records: int
    layers: int
    layer_bytes: int
    blobs: int
    blob_bytes: int
    volumes: int
    volume_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.layer_bytes + self.blob_bytes + self.volume_bytes


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed."""

    records: int = 0
    layers: int = 0
    blobs: int = 0
    volumes: int = 0
    bytes: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            records=self.records + other.records,
            layers=self.layers + other.layers,
            blobs=self.blobs + other.blobs,
            volumes=self.volumes + other.volumes,
            bytes=self.bytes + other.bytes,
        )


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Bytes on disk, by name."""

    layers: dict[str, int]
    blobs: dict[str, int]
    volumes: dict[Path, int]

    @staticmethod
    def of(store: Store) -> _Sizes:
        """Walk all of a store."""
        seen: set[int] = set()
        return _Sizes(
            layers={
                str(layer): _size(store.layer_path(layer), seen)
                for layer in sorted(store.layers(), key=int)
            },
            blobs={path.name: _size(path, seen) for path in store.blobs()},
            volumes={path: _size(path, seen) for path in store.volumes()},
        )

    @property
    def total(self) -> int:
        return sum(sum(each.values()) for each in (self.layers, self.blobs, self.volumes))


def usage(store: Store) -> Usage:
    """Measure a store. Walks all of it."""
    sizes = _Sizes.of(store)
    return Usage(
        records=sum(1 for _ in store.records()),
        layers=len(sizes.layers),
        layer_bytes=sum(sizes.layers.values()),
        blobs=len(sizes.blobs),
        blob_bytes=sum(sizes.blobs.values()),
        volumes=len(sizes.volumes),
        volume_bytes=sum(sizes.volumes.values()),
    )


def prune(
    store: Store,
    *,
    max_bytes: int | None = None,
    older_than: float | None = None,
    now: Callable[[], float] = time.time,
) -> Pruned:
    """Remove what was used longest ago, and what nothing refers to. Safe while others run.

    Args:
        store: The store.
        max_bytes: Remove until it takes up no more than this.
        older_than: Remove what was last used more than this many seconds ago.
        now: The time, in seconds since the epoch.
    """
    before = None if older_than is None else now() - older_than
    done = Pruned()
    for _ in range(_PASSES):
        sizes = _Sizes.of(store)
        if done.bytes and (max_bytes is None or sizes.total <= max_bytes):
            break
        gone = _pass(store, sizes, max_bytes=max_bytes, before=before)
        done += gone
        if not gone.bytes:
            break
    return done


def _pass(store: Store, sizes: _Sizes, *, max_bytes: int | None, before: float | None) -> Pruned:
    with store.locked(exclusive=True):
        pruning = _Pruning(store, sizes, protected_since=_protected_since(store))
        gone = pruning.run(max_bytes=max_bytes, before=before)
    for path in gone.trash:
        remove_tree(path)
    return Pruned(
        records=gone.records,
        layers=gone.layers,
        blobs=gone.blobs,
        volumes=gone.volumes,
        bytes=gone.bytes,
    )


def _protected_since(store: Store) -> float:
    """When the oldest living process started to use the store."""
    starts = []
    for folder in store.owners(alive=True):
        lock = folder / "lock"
        if lock.exists():
            starts.append(lock.stat().st_mtime)
    return min(starts, default=float("inf"))


@dataclass
class _Unit:
    """Something that is removed as a whole: a record or a volume."""

    path: Path
    used: float
    layers: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    kind: str = "record"


@dataclass
class _Gone:
    records: int = 0
    layers: int = 0
    blobs: int = 0
    volumes: int = 0
    bytes: int = 0
    trash: list[Path] = field(default_factory=list)


class _Pruning:
    """One pass. What came after ``sizes`` were taken is used by who lives, and stays."""

    def __init__(self, store: Store, sizes: _Sizes, *, protected_since: float) -> None:
        self._store = store
        self._since = protected_since
        self._gone = _Gone()
        self._sizes = sizes
        self._total = sizes.total
        self._units = [*self._records(), *self._volumes()]
        self._layer_uses = Counter(name for unit in self._units for name in unit.layers)
        self._blob_uses = Counter(name for unit in self._units for name in unit.blobs)

    def run(self, *, max_bytes: int | None, before: float | None) -> _Gone:
        """Remove; the caller holds the store's lock."""
        self._remove_unused(self._sizes.layers, self._sizes.blobs)
        self._remove_strays()
        for unit in sorted(self._units, key=lambda item: item.used):
            too_old = before is not None and unit.used < before
            too_much = max_bytes is not None and self._total > max_bytes
            if unit.used < self._since and (too_old or too_much):
                self._remove(unit)
        return self._gone

    def _records(self) -> Iterator[_Unit]:
        for path in self._store.records():
            try:
                used = path.stat().st_mtime
            except FileNotFoundError:
                continue
            value = read_record(path)
            layers = frozenset(_named(value, "layers"))
            if value is None or not all(map(self._is_there, layers)):
                path.unlink(missing_ok=True)
                self._gone.records += 1
                continue
            blobs = frozenset(name.removeprefix("sha256:") for name in _named(value, "blobs"))
            yield _Unit(path, used, layers, blobs)

    def _is_there(self, layer: str) -> bool:
        known = layer in self._sizes.layers
        return known or os.path.isdir(self._store.layer_path(Layer(layer)))

    def _volumes(self) -> Iterator[_Unit]:
        for path in self._sizes.volumes:
            lock = self._store.volume_lock(path)
            try:
                used = (lock if lock.exists() else path).stat().st_mtime
            except FileNotFoundError:
                continue
            yield _Unit(path, used, kind="volume")

    def _remove(self, unit: _Unit) -> None:
        if unit.kind == "volume":
            self._remove_volume(unit.path)
            return
        unit.path.unlink(missing_ok=True)
        self._gone.records += 1
        self._layer_uses.subtract(unit.layers)
        self._blob_uses.subtract(unit.blobs)
        self._remove_unused(unit.layers, unit.blobs)

    def _remove_unused(self, layers: Iterable[str], blobs: Iterable[str]) -> None:
        """Those of these layers and blobs that no record names any more."""
        sizes = self._sizes
        for name in list(layers):
            path = self._store.layer_path(Layer(name))
            if self._layer_uses[name] <= 0 and name in sizes.layers and self._is_idle(path):
                self._gone.trash.append(self._store.layer_folder.remove(name))
                self._gone.layers += 1
                self._count(sizes.layers.pop(name))
        for name in list(blobs):
            path = self._store.blob_folder.folder / name
            if self._blob_uses[name] <= 0 and name in sizes.blobs and self._is_idle(path):
                path.unlink(missing_ok=True)
                self._gone.blobs += 1
                self._count(sizes.blobs.pop(name))

    def _remove_strays(self) -> None:
        """What stands beside layers that are gone, and claims of who was killed."""
        folder = self._store.layer_folder.folder
        for name in os.listdir(folder):
            path = folder / name
            if not (folder / name.partition(".")[0]).exists() and self._is_idle(path):
                path.unlink(missing_ok=True)
        self._store.drop_claims()

    def _is_idle(self, path: Path) -> bool:
        """Nobody who lives can be about to refer to it: it was made, or used, before their time.

        The change time, because a layer's own modification time is what its files say.
        """
        try:
            return path.lstat().st_ctime < self._since
        except FileNotFoundError:
            return False

    def _remove_volume(self, path: Path) -> None:
        with try_lock_volume(self._store.volume_lock(path)) as free:
            if free and path.exists():
                self._gone.trash.append(self._store.discard(path))
                self._gone.volumes += 1
                self._count(self._sizes.volumes.pop(path))

    def _count(self, size: int) -> None:
        self._gone.bytes += size
        self._total -= size


def _named(value: object, key: str) -> Iterator[str]:
    """All strings in lists under ``key``, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, list):
                yield from (item for item in inner if isinstance(item, str))
            else:
                yield from _named(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)


def _size(path: Path, seen: set[int]) -> int:
    """Bytes on disk of a file or folder; inodes in ``seen`` were counted elsewhere."""
    total = 0
    pending = [str(path)]
    while pending:
        place = pending.pop()
        try:
            status = os.lstat(place)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            total += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(place) as entries:
                    pending.extend(entry.path for entry in entries)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total
