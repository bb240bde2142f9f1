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
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import structlog

from ci.engine.services.child import let_end

__all__ = ["PROGRAM", "RESOLVER", "ROUTER", "gateway"]

PROGRAM = "slirp4netns"
#: Its addresses in the session's network. Source: slirp4netns(1), "cidr".
ROUTER, RESOLVER = "198.18.0.2", "198.18.0.3"
_NETWORK = "198.18.0.0/16"
_READY_SECONDS = 10.0
#: Bytes of what it says that are looked at.
_COMPLAINT = 1 << 16

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
    async with AsyncExitStack() as stack:
        ready_read, ready_write = os.pipe()
        stack.callback(os.close, ready_read)
        # The other end is closed when this process ends, however it does.
        life_read, life_write = os.pipe()
        life = stack.enter_context(os.fdopen(life_write, "wb"))
        # Not a pipe, which nobody would read while it runs.
        said = os.memfd_create("towpath-gateway")
        stack.callback(os.close, said)
        try:
            process = await anyio.open_process(
                [program, "--enable-sandbox", "--enable-seccomp", "--disable-host-loopback",
                 f"--cidr={_NETWORK}",
                 f"--ready-fd={ready_write}", f"--exit-fd={life_read}", str(pid), interface],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(ready_write, life_read),
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(ready_write)
            os.close(life_read)
        stack.push_async_callback(let_end, process)
        stack.callback(life.close)
        complaint = await _await_ready(ready_read, process, said)
        if complaint:
            _log.warning("gateway.unavailable", program=PROGRAM, reason=complaint)
        yield not complaint


async def _await_ready(ready: int, process: anyio.abc.Process, said: int) -> str:
    """Return when it serves: nothing, or why it does not."""
    with anyio.move_on_after(_READY_SECONDS):
        await anyio.wait_readable(ready)
        if os.read(ready, 1):
            return ""
        await process.wait()
        lines = os.pread(said, _COMPLAINT, 0).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended at once"
    return f"not ready within {_READY_SECONDS:g} s"
