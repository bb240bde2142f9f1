"""A child process that ends by itself when what it listens to is closed."""

from __future__ import annotations

import anyio
import anyio.abc

__all__ = ["let_end"]

_PATIENCE_SECONDS = 2.0


async def let_end(process: anyio.abc.Process) -> None:
    """Return when it has ended; it is killed where it takes its time."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(_PATIENCE_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.aclose()
