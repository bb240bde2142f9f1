"""The store's layers: numbered, sealed when they are made, looked over when they are first used."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import structlog

from ci.engine.store.layers import Layer, Snapshot
from ci.engine.store.records import Record, decode, encode
from ci.engine.store.seal import Outline, contents, outline

__all__ = ["LayerFolder"]

#: What belongs to a layer stands beside it under these names.
_BESIDE = (".seal", ".contents", ".index")
#: Where numbers go on when the last one is lost: beyond what anything may remember.
_LEAP = 1_000_000

_log = structlog.get_logger(__name__)


class LayerFolder:
    """Layers in ``folder``.

    Args:
        folder: Theirs alone.
        write: Writes a file whole or not at all.
        discard: Moves something of the store out of sight.
    """

    def __init__(
        self,
        folder: Path,
        *,
        write: Callable[[Path, bytes], None],
        discard: Callable[[Path], Path],
    ) -> None:
        self.folder = folder
        self._base = str(folder)
        self._write = write
        self._discard = discard
        self._sound: set[str] = set()
        self._looking = threading.Lock()
        #: Reads what layers hold, so that nobody waits for it.
        self._reader: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self._closing = False

    def close(self) -> None:
        """Give up what was not read yet; ``ci engine check`` reads it."""
        self._closing = True
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def settle(self, seconds: float) -> None:
        """Wait until the contents of all new layers are known, but no longer than that."""
        wait(self._pending, timeout=seconds)

    # -- making --------------------------------------------------------------------------------

    def add(self, folder: Path, *, read: bool) -> Layer:
        """Take over a folder; ``read``: note the contents of its files soon."""
        sealed = outline(str(folder))
        layer = self._free_number()
        self._write(self._seal(layer), encode(sealed.record()))
        folder.rename(self.folder / layer)
        self._sound.add(layer)
        if read and sealed.entries:
            self._read_soon(layer)
        return layer

    def seal(self, layer: Layer) -> Outline:
        """Seal a layer as it is now: for who changed it before anyone used it."""
        sealed = outline(f"{self._base}/{layer}")
        self._write(self._seal(layer), encode(sealed.record()))
        return sealed

    def _free_number(self) -> Layer:
        layer = Layer(str(self._next_number()))
        if (self.folder / layer).exists():
            _log.warning("store.damaged", what="the counter of layers", done="counted anew")
            self._counter().write_bytes(b"")
            layer = Layer(str(self._next_number()))
        return layer

    def _next_number(self) -> int:
        """A number that no layer has had: numbers are never used again."""
        fd = os.open(self._counter(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            number = self._count(os.read(fd, 64))
            # Twice, so that a lost bit shows.
            os.pwrite(fd, b"%012d\n%012d\n" % (number, number), 0)
            return number
        finally:
            os.close(fd)

    def _count(self, text: bytes) -> int:
        first, *second = text.split()[:2] or [b""]
        if first.isdigit() and second in ([], [first]):
            return int(first) + 1
        known = [int(name) for name in self.layers()]
        return max(known) + _LEAP if known else 1

    def _counter(self) -> Path:
        return self.folder.parent / "counter"

    def _seal(self, layer: str) -> Path:
        return self.folder / f"{layer}.seal"

    # -- contents ------------------------------------------------------------------------------

    def _read_soon(self, layer: Layer) -> None:
        if self._reader is None:
            self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="towpath-reader")
        self._pending = [future for future in self._pending if not future.done()]
        self._pending.append(self._reader.submit(self._read, layer))

    def _read(self, layer: Layer) -> None:
        with suppress(OSError):  # pruned meanwhile, or no space: the check will see
            self.note_contents(layer, go_on=lambda: not self._closing)

    def note_contents(self, layer: Layer, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Write down the digest of each file that this layer was the first to have."""
        found = contents(f"{self._base}/{layer}", go_on=go_on)
        if found is not None:
            self._write(self.folder / f"{layer}.contents", encode(found))

    def known_contents(self, layer: Layer) -> dict[str, str] | None:
        """Digest by path, as ``note_contents`` or an import wrote it; None where neither did."""
        for suffix in (".contents", ".index"):
            with suppress(OSError):
                found = decode((self.folder / (layer + suffix)).read_bytes())
                if found is not None and suffix == ".index":
                    return {"/" + path: digest for path, (_, digest) in found.items()}
                if found is not None:
                    return found
        return None

    # -- using ---------------------------------------------------------------------------------

    def paths(self, snapshot: Snapshot) -> list[str]:
        """Where layers are, lowest first."""
        return [f"{self._base}/{layer}" for layer in snapshot]

    def has(self, snapshot: Snapshot) -> bool:
        """Whether all layers of a snapshot are there, and as they were made."""
        return all(
            os.path.isdir(f"{self._base}/{layer}") and (layer in self._sound or self._look(layer))
            for layer in snapshot
        )

    def layers(self) -> list[Layer]:
        """All layers that are there."""
        return [Layer(name) for name in os.listdir(self._base) if name.isdigit()]

    def sealed(self, layer: str) -> Outline | None:
        """A layer's outline when it was sealed; None where there is none that can be read."""
        record: Record | None = None
        with suppress(OSError):
            record = decode(self._seal(layer).read_bytes())
        try:
            return Outline.of(record) if record is not None else None
        except (KeyError, TypeError, ValueError):
            return None

    def has_seal(self, layer: str) -> bool:
        """Whether there is a seal, readable or not."""
        return self._seal(layer).exists()

    def is_sound(self, layer: Layer) -> bool:
        """Whether a layer is as it was sealed. One without a seal is sealed as it is."""
        known = self.sealed(layer)
        if known is None and not self.has_seal(layer):
            self.seal(layer)
            return True
        return known is not None and known.fits(outline(f"{self._base}/{layer}"))

    def _look(self, layer: Layer) -> bool:
        with self._looking:
            if layer in self._sound:
                return True
            try:
                sound = self.is_sound(layer)
            except FileNotFoundError:  # pruned, or dropped, this moment
                return False
            if sound:
                self._sound.add(layer)
            else:
                with suppress(FileNotFoundError):
                    self.drop(layer)
            return sound

    def drop(self, layer: Layer) -> Path:
        """Remove a damaged layer, as ``remove`` does; what was made of it is made again."""
        _log.warning("store.damaged", what=f"layer {layer}", done="dropped, to be made again")
        self._sound.discard(layer)
        return self.remove(layer)

    def remove(self, layer: str) -> Path:
        """Move a layer out of sight, with what stands beside it; ``remove_tree`` the result."""
        gone = self._discard(self.folder / layer)
        for suffix in _BESIDE:
            (self.folder / (layer + suffix)).unlink(missing_ok=True)
        return gone
