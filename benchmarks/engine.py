"""The embedded engine beside BuildKit and Podman: the same Dockerfiles, one machine, one run.

    python -m benchmarks.engine [--small]

A peer that is not installed, or may not run here, is left out, and the table says so.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from benchmarks import builders, builds, execs, pipeline
from benchmarks.builders import Builder


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is built."""

    execs: int = 200
    rounds: int = 3
    #: Docker refuses more than 128 layers ("max depth exceeded").
    steps: int = 100
    #: A chain for the embedded engine alone.
    long: int = 200
    files: int = 10_000
    at_once: tuple[int, ...] = (1, 10, 100)


#: To see that it works.
SMALL = Size(execs=10, rounds=1, steps=5, long=10, files=200, at_once=(1, 3))


@dataclass(kw_only=True)
class Measured:
    """Seconds by row and builder; text where there are none."""

    rows: dict[str, dict[str, float | str]] = field(default_factory=dict)
    #: Milliseconds of single execs, see ``execs``.
    execs: dict[str, float] = field(default_factory=dict)
    #: MiB, by builder.
    memory: dict[str, float] = field(default_factory=dict)
    #: Peers that did not run, and why.
    absent: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def note(self, row: str, builder: Builder, value: float | str) -> None:
        self.rows.setdefault(row, {})[builder.name] = value
        print(f"{row}: {builder.name}: {value}", file=sys.stderr)


def measure(folder: Path, size: Size = Size()) -> Measured:
    """All rows. ``folder`` is where stores are made: on a file system that overlays can have."""
    return anyio.run(_measure, folder, size)


async def _measure(scratch: Path, size: Size) -> Measured:
    found = Measured()
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(builders.towpath(scratch))
        many = builds.context(scratch / "many", "", size.files)
        found.execs = await execs.measure(size.execs, many)
        base = await builders.base_archive(scratch)
        all_: list[Builder] = [ours, builders.WholeProcess(scratch / "store")]
        for peer, enter, programs in (
            (builders.Docker, builders.docker, ("dockerd", "runc")),
            (builders.Podman, builders.podman, ("podman", "runc")),
        ):
            if why := builders.missing(*programs):
                found.absent[peer.name] = why
            else:
                all_.append(await stack.enter_async_context(enter(scratch, base)))
        found.names = [each.name for each in all_]
        bench = _Bench(scratch / "sources", found, size)
        peers = [each for each in all_ if not isinstance(each, builders.WholeProcess)]
        await bench.application(all_)
        await bench.chain(peers, size.steps)
        await bench.chain([ours], size.long)
        await bench.context(all_)
        for count in size.at_once:
            await bench.at_once(peers, count)
        found.memory = {each.name: each.peak() for each in peers}
    return found


class _Bench:
    """Runs the rows."""

    def __init__(self, folder: Path, found: Measured, size: Size) -> None:
        self._folder = folder
        self._size = size
        self._found = found
        self._numbers = itertools.count()

    def _fresh(self) -> tuple[Path, str]:
        """A folder, and what makes its content unlike any other's."""
        name = f"{next(self._numbers)}-{time.time_ns()}"
        return self._folder / name, name

    async def application(self, all_: Sequence[Builder]) -> None:
        """First build, no change, one file changed: in turn, the medians of the rounds."""
        rows = ("first build", "no change", "one source file changed")
        times: dict[str, dict[str, list[float]]] = {row: {} for row in rows}
        for _ in range(self._size.rounds):
            for builder in all_:
                folder, nonce = self._fresh()
                builds.application(folder, nonce)
                for row in rows:
                    if row == rows[-1]:
                        builds.edit(folder, nonce)
                    seconds = await _seconds(builder, folder)
                    times[row].setdefault(builder.name, []).append(seconds)
        for row in rows:
            for builder in all_:
                self._found.note(row, builder, statistics.median(times[row][builder.name]))

    async def chain(self, all_: Sequence[Builder], steps: int) -> None:
        for builder in all_:
            folder, nonce = self._fresh()
            builds.chain(folder, nonce, steps)
            self._found.note(f"chain of {steps} steps", builder, await _seconds(builder, folder))
            again = await _seconds(builder, folder)
            self._found.note(f"chain of {steps} steps, no change", builder, again)

    async def context(self, all_: Sequence[Builder]) -> None:
        for builder in all_:
            folder, nonce = self._fresh()
            builds.context(folder, nonce, self._size.files)
            row = f"{self._size.files:,} files copied"
            self._found.note(row, builder, await _seconds(builder, folder))
            again = [await _seconds(builder, folder) for _ in range(self._size.rounds)]
            self._found.note(f"{row}, no change", builder, statistics.median(again))

    async def at_once(self, all_: Sequence[Builder], count: int) -> None:
        """So many builds at once, each of a source of its own; the time until all are done."""
        row = f"{count} at once" if count > 1 else "1 alone"
        for builder in all_:
            if count > builder.most:
                self._found.note(row, builder, "not tried")
                continue
            folders = [builds.pipeline(*self._fresh()) for _ in range(count)]
            began = time.perf_counter()
            value: float | str
            try:
                async with anyio.create_task_group() as group:
                    for folder in folders:
                        group.start_soon(builder.build, folder)
                value = time.perf_counter() - began
            except* (RuntimeError, TimeoutError) as errors:
                value = f"failed: {_first(errors)}"
            self._found.note(row, builder, value)


def _first(group: BaseException) -> str:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return str(group).strip().splitlines()[-1][-80:] if str(group) else type(group).__name__


async def _seconds(builder: Builder, folder: Path) -> float:
    began = time.perf_counter()
    await builder.build(folder)
    return time.perf_counter() - began


def main() -> None:
    with pipeline.scratch() as folder:
        found = measure(folder, SMALL if "--small" in sys.argv else Size())
    json.dump(dataclasses.asdict(found), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
