"""``ci engine run -- CMD``: any program that uses a Dagger SDK, against the embedded engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio

from ci.engine.session import Session
from ci.errors import ConfigError

__all__ = ["run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: How long the program has to end when it is told to.
_GRACE_SECONDS = 10.0


async def run(argv: Sequence[str], session: Session, *, workdir: Path | None = None) -> int:
    """Run the program within a session, from its start to its end.

    Returns the program's exit code, 128 + n where signal n ended it.

    It inherits standard input and output. SIGINT and SIGTERM go to it, and the session ends
    after it.

    Raises:
        ConfigError: there is no such program.
    """
    if not argv:
        raise ConfigError("ci engine run", got="no command", expected="ci engine run -- CMD ...")
    async with session:
        try:
            process = await anyio.open_process(
                list(argv),
                stdin=None,
                stdout=None,
                stderr=None,
                cwd=workdir,
                env={**os.environ, **session.environment()},
            )
        except OSError as error:
            raise ConfigError(
                f"command {argv[0]!r}", got=error.strerror or str(error), expected="a program"
            ) from None
        code = await _wait(process)
    return code if code >= 0 else 128 - code


async def _wait(process: anyio.abc.Process) -> int:
    """Wait for its end, handing on signals; it never outlives us."""
    async with process, anyio.create_task_group() as tasks:
        tasks.start_soon(_hand_on_signals, process)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(_GRACE_SECONDS, shield=True):
                    await process.wait()
        tasks.cancel_scope.cancel()
    return code


async def _hand_on_signals(process: anyio.abc.Process) -> None:
    """Pass signals to the program. Ctrl-C reaches it from the terminal already."""
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        async for number in signals:
            if number != signal.SIGINT or not os.isatty(0):
                process.send_signal(number)
