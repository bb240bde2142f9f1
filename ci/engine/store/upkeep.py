"""Keeping a store within a size by itself: looked at when a session ends, at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from ci.engine.store.prune import Pruned, prune, usage
from ci.engine.store.store import Store

__all__ = ["tend"]

#: A store that is too large is pruned to this part of its limit, so that it is not soon again.
_DOWN_TO = 0.8
#: Sizes are estimated from what layers had when they were made; after so long, they are measured.
_MEASURE_SECONDS = 24 * 3600.0
#: Between two looks.
_REST_SECONDS = 60.0

_log = structlog.get_logger(__name__)


def tend(store: Store, limit: int | None, *, now: Callable[[], float] = time.time) -> Pruned | None:
    """Prune a store that has outgrown its limit; what was removed, if anything was.

    What takes up least is no reason to look at all of it: an estimate is made first, from one
    small file a layer, and not even that more often than once a minute.
    """
    if limit is None:
        return None
    stamp = store.root / "tended"
    looked, measured = _times(stamp)
    if 0 <= now() - looked < _REST_SECONDS:
        return None
    due = not 0 <= now() - measured < _MEASURE_SECONDS
    gone = None
    if due or _estimate(store) > limit:
        measured = now()
        if usage(store).total_bytes > limit:
            gone = prune(store, max_bytes=int(limit * _DOWN_TO))
            _log.info("store.pruned", layers=gone.layers, bytes=gone.bytes, limit=limit)
    with store.guard():
        stamp.write_text(f"{now()} {measured}")
    return gone


def _times(stamp: Path) -> tuple[float, float]:
    """When the store was last looked at, and last measured; 0 for never."""
    with suppress(OSError, ValueError):
        looked, measured = stamp.read_text().split()
        return float(looked), float(measured)
    return 0.0, 0.0


def _estimate(store: Store) -> int:
    """Bytes of layers, when they were made, and of blobs."""
    total = 0
    for layer in store.layers():
        sealed = store.layer_folder.sealed(layer)
        total += sealed.bytes if sealed is not None else 0
    for path in store.blobs():
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
