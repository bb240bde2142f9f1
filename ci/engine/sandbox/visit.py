"""Runs a program inside a sandbox that runs already, confined as its own command is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from ci.engine.sandbox.argv import Plan
from ci.engine.sandbox.confinement import Kernel, Restrictions, confinement
from ci.engine.sandbox.launcher import open_launcher
from ci.engine.vertices.execution import Namespaces

__all__ = ["visit"]

_HELPER = Path(__file__).with_name("enter.py")


async def visit(
    pid: int,
    plan: Plan,
    args: Sequence[str],
    *,
    namespaces: Namespaces | None = None,
    terminal: int | None = None,
) -> int:
    """Run the program to its end; its exit code, 128 + n for signal n, 125 if it cannot get in.

    Its output goes to the terminal, or nowhere. Cancelled, it is killed.

    Args:
        pid: of the sandbox's init.
        plan: of the sandbox, whose user, variables and folder the program gets too.
        args: the program and its arguments.
        namespaces: what the sandbox joined when it was started.
        terminal: its standard streams.
    """
    user = namespaces.user if namespaces is not None else None
    streams = subprocess.DEVNULL if terminal is None else terminal
    with ExitStack() as stack:
        order = stack.enter_context(_order(pid, plan, args))
        launcher = _open_launcher(plan, args, terminal=terminal is not None)
        stack.callback(os.close, launcher)
        given = [order, launcher, *([] if user is None else [user])]
        process = await anyio.open_process(
            [sys.executable, "-I", "-S", str(_HELPER), *map(str, given)],
            stdin=streams,
            stdout=streams,
            stderr=streams,
            pass_fds=given,
            start_new_session=True,
        )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


@contextmanager
def _order(pid: int, plan: Plan, args: Sequence[str]) -> Iterator[int]:
    """A descriptor of what the helper is to do: variables stand in no command line."""
    text = json.dumps(
        {"pid": pid, "args": list(args), "env": dict(plan.env), "workdir": plan.workdir}
    )
    fd = os.memfd_create("towpath-order")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _open_launcher(plan: Plan, args: Sequence[str], *, terminal: bool) -> int:
    kernel = Kernel.here()
    restrictions = Restrictions.of(plan, has_stdin=True)
    return open_launcher(
        kernel.machine,
        args[0],
        path=dict(plan.env).get("PATH", os.defpath),
        calls=confinement(replace(restrictions, is_visitor=True, terminal=terminal), kernel),
        workdir=plan.workdir,
    )
