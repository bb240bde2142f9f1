"""Gateway: the way out of a session's network for everything that speaks TCP or UDP.

It is slirp4netns, where that is installed: a program of its own that is a router and a resolver
to the network, and to the machine an ordinary program that opens connections. It needs no root,
and changes nothing outside. Other than the proxy of ``egress.py``, it serves programs that heed no
proxy variables, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog

__all__ = ["PROGRAM", "RESOLVER", "ROUTER", "gateway"]

PROGRAM = "slirp4netns"
#: Its addresses in the session's network. Source: slirp4netns(1), "cidr".
ROUTER, RESOLVER = "198.18.0.2", "198.18.0.3"
_NETWORK = "198.18.0.0/16"
_READY_SECONDS = 10.0
_END_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def gateway(pid: int, interface: str) -> AsyncIterator[bool]:
    """Put a gateway into the network of a process, as an interface of that name.

    Gives whether there is one, while the context lasts: not where the program is not installed
    or cannot run here, which is logged.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        yield False
        return
    ready_read, ready_write = os.pipe()
    # The other end is closed when this process ends, however it does.
    life_read, life_write = os.pipe()
    try:
        process = await anyio.open_process(
            [program, "--enable-sandbox", "--enable-seccomp", "--disable-host-loopback",
             f"--cidr={_NETWORK}",
             f"--ready-fd={ready_write}", f"--exit-fd={life_read}", str(pid), interface],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(ready_write, life_read),
            start_new_session=True,
        )  # fmt: skip
        os.close(ready_write)
        os.close(life_read)
        try:
            complaint = await _await_ready(ready_read, process)
            if complaint:
                _log.warning("gateway.unavailable", program=PROGRAM, reason=complaint)
            yield not complaint
        finally:
            await _end(process)
    finally:
        os.close(ready_read)
        os.close(life_write)


async def _await_ready(ready: int, process: anyio.abc.Process) -> str:
    """Return when it serves: nothing, or why it does not."""
    with anyio.move_on_after(_READY_SECONDS):
        await anyio.wait_readable(ready)
        if os.read(ready, 1):
            return ""
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        said = b"".join([chunk async for chunk in process.stderr])
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended at once"
    return f"not ready within {_READY_SECONDS:g} s"


async def _end(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(_END_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.aclose()
