"""What a store takes up, and making it smaller while others use it.

What a living process has used since it started is never removed: its own results may build on it.
Of the rest, what was used longest ago goes first.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ci.engine.layers import Layer, remove_tree
from ci.engine.store import Store, read_record, try_lock_volume

__all__ = ["Pruned", "Usage", "prune", "usage"]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What is in a store. Sizes are in bytes on disk; a hard-linked file counts once."""

    records: int
    layers: int
    layer_bytes: int
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

    records: int
    layers: int
    blobs: int
    volumes: int
    bytes: int


def usage(store: Store) -> Usage:
    """Measure a store. Walks all of it."""
    seen: set[int] = set()
    layers = store.layers()
    volumes = store.volumes()
    return Usage(
        records=sum(1 for _ in store.records()),
        layers=len(layers),
        layer_bytes=sum(_size(store.layer_path(layer), seen) for layer in layers),
        blob_bytes=sum(_size(path, seen) for path in store.blobs()),
        volumes=len(volumes),
        volume_bytes=sum(_size(path, seen) for path in volumes),
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
    with store.locked(exclusive=True):
        gone = _Pruning(store, protected_since=_protected_since(store)).run(
            max_bytes=max_bytes, before=None if older_than is None else now() - older_than
        )
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
    starts = [folder.stat().st_mtime for folder in _locks(store)]
    return min(starts, default=float("inf"))


def _locks(store: Store) -> Iterator[Path]:
    for folder in store.owners(alive=True):
        lock = folder / "lock"
        if lock.exists():
            yield lock


@dataclass
class _Unit:
    """Something that is removed as a whole: a record, a blob or a volume."""

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
    def __init__(self, store: Store, *, protected_since: float) -> None:
        self._store = store
        self._since = protected_since
        self._gone = _Gone()
        seen: set[int] = set()
        self._layer_bytes = {
            str(layer): _size(store.layer_path(layer), seen) for layer in store.layers()
        }
        self._blob_bytes = {path.name: _size(path, seen) for path in store.blobs()}
        self._volume_bytes = {path: _size(path, seen) for path in store.volumes()}
        self._units = [*self._records(), *self._volumes()]
        self._layer_uses = Counter(name for unit in self._units for name in unit.layers)
        self._blob_uses = Counter(name for unit in self._units for name in unit.blobs)

    def run(self, *, max_bytes: int | None, before: float | None) -> _Gone:
        """Remove; the caller holds the store's lock."""
        self._remove_unused()
        for unit in sorted(self._units, key=lambda item: item.used):
            too_old = before is not None and unit.used < before
            too_much = max_bytes is not None and self._total() > max_bytes
            if unit.used < self._since and (too_old or too_much):
                self._remove(unit)
        return self._gone

    def _total(self) -> int:
        return (
            sum(self._layer_bytes.values())
            + sum(self._blob_bytes.values())
            + sum(self._volume_bytes.values())
        )

    def _records(self) -> Iterator[_Unit]:
        for path in self._store.records():
            try:
                used = path.stat().st_mtime
            except FileNotFoundError:
                continue
            value = read_record(path)
            if value is None:
                path.unlink(missing_ok=True)
                continue
            layers = frozenset(_named(value, "layers"))
            unknown = layers - self._layer_bytes.keys()
            if not self._store.has_layers(tuple(Layer(name) for name in unknown)):
                path.unlink(missing_ok=True)
                self._gone.records += 1
                continue
            blobs = frozenset(name.removeprefix("sha256:") for name in _named(value, "blobs"))
            yield _Unit(path, used, layers, blobs)

    def _volumes(self) -> Iterator[_Unit]:
        for path in self._volume_bytes:
            lock = self._store.volume_lock(path)
            used = lock.stat().st_mtime if lock.exists() else path.stat().st_mtime
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

    def _remove_unused(
        self, layers: Iterable[str] | None = None, blobs: Iterable[str] | None = None
    ) -> None:
        """Layers and blobs (of those given, or all) that no record names any more."""
        for name in list(self._layer_bytes if layers is None else layers):
            path = self._store.root / "l" / name
            if self._layer_uses[name] <= 0 and name in self._layer_bytes and self._idle(path):
                self._gone.trash.append(self._store.discard(path))
                path.with_name(name + ".index").unlink(missing_ok=True)
                self._gone.layers += 1
                self._gone.bytes += self._layer_bytes.pop(name)
        for name in list(self._blob_bytes if blobs is None else blobs):
            path = self._store.root / "blobs" / name
            if self._blob_uses[name] <= 0 and name in self._blob_bytes and self._idle(path):
                path.unlink(missing_ok=True)
                self._gone.blobs += 1
                self._gone.bytes += self._blob_bytes.pop(name)

    def _idle(self, path: Path) -> bool:
        """Nobody who lives can be about to refer to it: it was made, or used, before their time.

        The change time, because a layer's own modification time is what its files say.
        """
        try:
            return path.lstat().st_ctime < self._since
        except FileNotFoundError:
            return False

    def _remove_volume(self, path: Path) -> None:
        lock = self._store.volume_lock(path)
        with try_lock_volume(lock) as free:
            if free:
                self._gone.trash.append(self._store.discard(path))
                self._gone.volumes += 1
                self._gone.bytes += self._volume_bytes.pop(path)


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
        except (FileNotFoundError, PermissionError):
            continue
    return total
