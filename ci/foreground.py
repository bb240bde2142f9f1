"""Work in the foreground: an engine for it, a display, signals, a place for its records."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from ci import exits, surroundings
from ci.connection import Connection, connected
from ci.events import Event, ExecFinished, Feed
from ci.flow import NotPassedError, Run, Stop
from ci.host import Host
from ci.local_delivery import local_delivery
from ci.records.folder import write_run
from ci.settings import Settings
from ci.terminal import Display

__all__ = ["within_engine"]

#: Where records go, in the caller's folder.
RUNS = Path(".towpath/runs")


async def within_engine(
    work: Callable[[], Awaitable[str]],
    *,
    source: Path,
    json: bool = False,
    plain: bool = False,
) -> int:
    """Do the work with an engine, a display of its progress, and a place for its records.

    The text that it comes to is printed, unless the display has told it to the same reader.
    The exit code: 0, the run's where it did not pass, 130 where it was interrupted. The first
    SIGINT or SIGTERM ends a run soundly, the second at once.
    """
    settings = Settings.from_environment()
    stop, feed = Stop(), Feed()
    told: list[str] = []
    display = Display.of(json=json, plain=plain or settings.in_ci, no_color=settings.no_color)
    code: int = exits.PASSED
    async with anyio.create_task_group() as group:
        await group.start(_obey_signals, stop)
        async with connected(
            settings,
            feed,
            source=source,
            workdir=Path.cwd(),
            stepping_aside=display.stepping_aside,
        ) as connection:
            with (
                _surroundings(settings, connection, display, feed, stop, source, told) as around,
                surroundings.entered(around),
                display,
            ):
                try:
                    text = await work()
                    if text and _is_news(text, told, json=json):
                        print(text)
                except NotPassedError as error:
                    code = error.exit_code
                # What comes after the work changes nothing of how it ended.
                code = exits.INTERRUPTED if stop.reason else code
        group.cancel_scope.cancel()
    return code


def _is_news(text: str, told: Sequence[str], *, json: bool) -> bool:
    """The display has not told it to whoever reads stdout; among events there is no room for it."""
    if told and json:
        return False
    return not (text.rstrip() in told and _are_one(sys.stdout, sys.stderr))


def _are_one(first: TextIO, second: TextIO) -> bool:
    """What is written to either arrives at the same place."""
    try:
        return os.path.sameopenfile(first.fileno(), second.fileno())
    except OSError:
        return False


@contextmanager
def _surroundings(
    settings: Settings,
    connection: Connection,
    display: Display,
    feed: Feed,
    stop: Stop,
    source: Path,
    told: list[str],
) -> Iterator[surroundings.Surroundings]:
    async def keep(run: Run) -> None:
        with anyio.CancelScope(shield=True):
            folder = await anyio.to_thread.run_sync(write_run, RUNS, run.record, run.reports)
        display.finish(run, folder)
        told.append(run.summary.rstrip())

    host = Host(
        partial(local_delivery, settings, feed), source=source, exports=settings.state / "exports"
    )
    try:
        yield surroundings.Surroundings(
            engine=connection.engine,
            images=connection.images,
            sinks=(display, partial(_name_stage, connection)),
            feed=feed,
            stop=stop,
            host=host,
            folder=source.absolute(),
            keep=keep,
        )
    finally:
        host.close()


def _name_stage(connection: Connection, event: Event) -> None:
    """A sink: tells the engine which stage asked for a command."""
    if isinstance(event, ExecFinished) and event.node:
        connection.name_stage(event.exec, event.node)


async def _obey_signals(
    stop: Stop, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """The first signal asks the run to stop; the second ends the program."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stop.reason:
                raise KeyboardInterrupt
            stop(f"interrupted by {signal.Signals(number).name}")
