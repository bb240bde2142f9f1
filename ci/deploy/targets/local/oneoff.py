"""One-off commands of an image: migrations, health checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import anyio
import anyio.to_thread

from ci.deploy.journal import write_whole
from ci.deploy.targets.local import launch
from ci.deploy.targets.local.processes import Processes, Program

__all__ = ["Ended", "run_once"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    #: None: it was killed at its deadline.
    exit_code: int | None
    output: str


async def run_once(processes: Processes, program: Program, *, deadline: float) -> Ended:
    """Run a program to its end; after ``deadline`` seconds, or when cancelled, it is killed."""
    path, text = processes.launch_file(program)
    await anyio.to_thread.run_sync(write_whole, path, text)
    command = [sys.executable, "-I", launch.__file__, str(path)]
    try:
        async with await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env={},
            start_new_session=True,
        ) as process:
            output = bytearray()
            try:
                with anyio.move_on_after(deadline) as scope:
                    if process.stdout:
                        async for chunk in process.stdout:
                            output += chunk
                    await process.wait()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        code = None if scope.cancelled_caught else process.returncode
        return Ended(code, output.decode(errors="replace"))
    finally:
        path.unlink(missing_ok=True)
        (processes.folder.pids / program.name).unlink(missing_ok=True)
