"""Claims: what several processes want is made by one of them, while the others wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog

from ci.engine.store.store import Store

__all__ = ["claimed"]

#: Between two tries: nothing tells when a claim is free.
_RETRY_SECONDS = 0.05

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def claimed(store: Store, name: str) -> AsyncIterator[None]:
    """Within the context no other process makes what ``name`` stands for.

    Look again in the store then: it may have been made meanwhile. A process that is killed holds
    nothing any more.
    """
    fd = store.claim(name)
    if fd is None:
        _log.info("store.awaited", what=name)
    while fd is None:
        await anyio.sleep(_RETRY_SECONDS)
        fd = store.claim(name)
    try:
        yield
    finally:
        store.release(fd)
