"""Diff IDs: the digests of layers' uncompressed tars, taken once for each layer of a store."""

from __future__ import annotations

import hashlib
from typing import IO, cast

from ci.engine.images.pack import pack_layer
from ci.engine.layers import Layer
from ci.engine.store import Store

__all__ = ["diff_id"]


class _HashOnly:
    """A file to write to that keeps nothing but the SHA-256."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        self.hash.update(data)
        return len(data)


def diff_id(store: Store, layer: Layer) -> str:
    """``sha256:...`` of the tar that ``pack_layer`` makes of this layer."""
    known = store.get("diff", layer)
    if known is not None:
        return str(known["diff_id"])
    sink = _HashOnly()
    pack_layer(store.layer_path(layer), cast("IO[bytes]", sink))
    digest = "sha256:" + sink.hash.hexdigest()
    store.put("diff", layer, {"layers": [layer], "diff_id": digest})
    return digest
