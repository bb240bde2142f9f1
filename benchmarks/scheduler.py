"""What the scheduler itself costs: trivial nodes, whose wall time is all overhead.

    python benchmarks/scheduler.py [NODES] [ROUNDS]

Its peer in the same run is a bare anyio task group that runs the same actions without order,
events or ends. Prints one JSON object; the times are microseconds a node, the median of the
rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from ci.events import Event
from ci.scheduler import End, Need, Result, Scheduler, Task
from ci.values import Status


async def act(_: Mapping[str, End[Any]]) -> Result[Any]:
    return Result(Status.PASSED)


def chain(count: int) -> list[Task[Any]]:
    return [
        Task(name=f"n{at}", action=act, needs=(Need(f"n{at - 1}"),) if at else ())
        for at in range(count)
    ]


def layers(
    count: int, width: int = 100, fan_in: int = 5, timeout: float | None = None
) -> list[Task[Any]]:
    """Each node needs some of the layer above it."""
    tasks = []
    for at in range(count):
        top = (at // width - 1) * width
        needs = tuple(Need(f"n{top + (at + step) % width}") for step in range(fan_in))
        tasks.append(
            Task(name=f"n{at}", action=act, needs=needs if top >= 0 else (), timeout=timeout)
        )
    return tasks


def scheduled(make: Callable[[], list[Task[Any]]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        finished = 0

        def count(event: Event) -> None:
            nonlocal finished
            finished += event.event == "node.finished"

        tasks = make()
        ends = await Scheduler(tasks, concurrency=8, emit=[count]).run()
        assert finished == len(ends) == len(tasks)

    return run


def bare(count: int) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(act, {})

    return run


def measure(run: Callable[[], Awaitable[None]], count: int, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        anyio.run(run)
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds) / count * 1e6, 1)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print(
        json.dumps(
            {
                "nodes": count,
                "rounds": rounds,
                "unit": "microseconds a node",
                "independent": measure(
                    scheduled(lambda: [Task(name=f"n{at}", action=act) for at in range(count)]),
                    count,
                    rounds,
                ),
                "chain": measure(scheduled(lambda: chain(count)), count, rounds),
                "layers": measure(scheduled(lambda: layers(count)), count, rounds),
                "layers, each with a timeout": measure(
                    scheduled(lambda: layers(count, timeout=60)), count, rounds
                ),
                "bare task group": measure(bare(count), count, rounds),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
