"""The full check of a store: reads every file of it, and drops what is not as it was written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ci.engine.store.layers import Layer, remove_tree
from ci.engine.store.records import decode
from ci.engine.store.seal import changed_contents, inodes, outline
from ci.engine.store.store import Store

__all__ = ["Checked", "Damage", "check"]

_FILES_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Something that was dropped."""

    #: Such as ``layer 12``.
    what: str
    found: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at, and what was dropped."""

    records: int
    blobs: int
    layers: int
    #: Layers whose files were read for the first time: there was nothing to compare them with.
    unknown: int
    damaged: tuple[Damage, ...]


def check(store: Store) -> Checked:
    """Compare everything in the store with what it was. Safe while others run.

    It takes as long as reading all of the store does.
    """
    records = list(store.records())
    blobs, layers = store.blobs(), _Layers(store)
    damaged = [*_records(records), *_blobs(store, blobs), *layers.damaged()]
    return Checked(
        records=len(records),
        blobs=len(blobs),
        layers=layers.looked_at,
        unknown=layers.unknown,
        damaged=tuple(damaged),
    )


def _records(paths: Iterable[Path]) -> Iterator[Damage]:
    for path in paths:
        with suppress(FileNotFoundError):
            if decode(path.read_bytes()) is None:
                path.unlink(missing_ok=True)
                yield Damage(what=f"record {path.parts[-3]}", found="damaged text")


def _blobs(store: Store, paths: Iterable[Path]) -> Iterator[Damage]:
    for path in paths:
        with suppress(FileNotFoundError):
            if not store.blob_folder.is_sound(path):
                store.blob_folder.drop(path)
                yield Damage(what=f"blob {path.name[:12]}", found="other contents")


class _Layers:
    """One check of all layers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.layer_folder
        self.looked_at = 0
        #: Of these there was nothing to compare contents with.
        self.unknown = 0
        #: Files that are damaged, by inode: other layers may have them, too.
        self._files: dict[int, str] = {}

    def damaged(self) -> Iterator[Damage]:
        """Drop and tell of each that is damaged."""
        sound = []
        for layer in self._store.layers():
            self.looked_at += 1
            with suppress(FileNotFoundError):
                found = "; ".join(self._faults(layer))
                if found:
                    yield self._drop(layer, found)
                else:
                    sound.append(layer)
        for layer in sound if self._files else ():
            with suppress(FileNotFoundError):
                shared = [self._files[inode] for inode in self._inodes(layer)]
                if shared:
                    yield self._drop(layer, "it shares " + _listed(shared))

    def _drop(self, layer: Layer, found: str) -> Damage:
        remove_tree(self._folder.drop(layer))
        return Damage(what=f"layer {layer}", found=found)

    def _inodes(self, layer: Layer) -> set[int]:
        return inodes(str(self._store.layer_path(layer))) & self._files.keys()

    def _faults(self, layer: Layer) -> Iterator[str]:
        """What is wrong with a layer; of a sound one the contents are known from here on."""
        folder = str(self._store.layer_path(layer))
        sealed = self._folder.sealed(layer)
        if sealed is None and self._folder.has_seal(layer):
            yield "its seal is damaged"
        elif sealed is None:
            self._folder.seal(layer)
        elif not sealed.fits(outline(folder)):
            yield "files were added, removed, cut or written to"
        known = self._folder.known_contents(layer)
        changed = changed_contents(folder, known or {})
        for path in changed:
            with suppress(OSError):
                self._files[os.lstat(folder + path).st_ino] = path
        if changed:
            yield "other contents in " + _listed(changed)
        if known is None:
            self.unknown += 1
            self._folder.note_contents(layer)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _FILES_NAMED} more" if len(paths) > _FILES_NAMED else ""
    return ", ".join(sorted(paths)[:_FILES_NAMED]) + more
