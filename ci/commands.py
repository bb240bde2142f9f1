"""Commands that need this machine and so are no Dagger functions: environments, doctor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from cyclopts import App, Parameter

from ci import exits, surroundings
from ci.clock import SystemClock
from ci.connection import Connection, connected
from ci.errors import ConfigError
from ci.events import Event, ExecFinished, Feed
from ci.flow import NotPassedError, Run, Stop
from ci.host import Host
from ci.records.folder import write_run
from ci.records.ledger import FILE_NAME, Ledger, LedgerEntry
from ci.records.text import short_digest
from ci.settings import Settings
from ci.terminal import Display
from ci.values import DeliveryRecord, Outcome

if TYPE_CHECKING:
    from ci.deploy.targets.local.delivery import EnvironmentStatus, LocalDelivery

__all__ = ["register", "within_engine"]

#: Where records go, in the caller's folder.
RUNS = Path(".towpath/runs")

Project = Annotated[str, Parameter(help="Only this project's environments.")]
Name = Annotated[str, Parameter(help="The environment.")]


def register(app: App) -> None:
    """Add the commands."""
    app.command(_environments, name="environments")
    app.command(_rollback, name="rollback")
    app.command(_stop, name="stop")
    app.command(_doctor, name="doctor")


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
        partial(_delivery, settings, feed), source=source, exports=settings.state / "exports"
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


def _delivery(settings: Settings, feed: Feed | None = None) -> LocalDelivery:
    from ci.deploy.targets.local.delivery import LocalDelivery  # noqa: PLC0415 - as below
    from ci.engine.runtime import Runtime  # noqa: PLC0415 - an extra, and costly to import

    ledger = Ledger(settings.state / FILE_NAME)

    def record(delivery: DeliveryRecord) -> None:
        ledger.append(LedgerEntry(recorded_at=SystemClock().now(), delivery=delivery))

    return LocalDelivery(Runtime(), state=settings.state, ledger=record, moved=feed)


# -- environments ---------------------------------------------------------------------------------


def _environments(*, project: Project = "") -> int:
    """List the local environments: release, address, health."""
    delivery = _delivery(Settings.from_environment())
    found = anyio.run(delivery.environments, project)
    if not found:
        print("no environments on this machine", file=sys.stderr)
    rows = [_cells(status) for status in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return exits.PASSED


def _cells(status: EnvironmentStatus) -> tuple[str, ...]:
    """A line of the table."""
    release = status.release
    health = "stopped" if not status.running else "healthy" if status.healthy else "unhealthy"
    more = [f"since {status.since:%Y-%m-%d %H:%M:%S} UTC"] if status.since else []
    more += [f"({status.detail})"] if status.detail else []
    return (
        f"{status.project}/{status.name}",
        status.url,
        release.version if release else "nothing",
        short_digest(release.digest) if release else "",
        health,
        " ".join(more) if status.running else "",
    )


def _rollback(name: Name, *, project: Project = "") -> int:
    """Deliver an environment's last good release again."""
    delivery = _delivery(Settings.from_environment())
    found = _one(delivery, name, project)
    record = anyio.run(delivery.rollback, found.project, name)
    if record.outcome is Outcome.PASSED and record.release:
        release = record.release
        which = f"{release.version} ({short_digest(release.digest)})"
        print(f"{name} answers with {which} at {record.url}")
        return exits.PASSED
    print(f"ci: {name} was not rolled back: {record.reason}", file=sys.stderr)
    return exits.ERRORED


def _stop(name: Name, *, project: Project = "") -> None:
    """Stop an environment's processes; its releases and data are kept."""
    delivery = _delivery(Settings.from_environment())
    found = _one(delivery, name, project)
    anyio.run(delivery.stop, found.project, name)
    print(f"{found.project}/{name} is stopped", file=sys.stderr)


def _one(delivery: LocalDelivery, name: str, project: str) -> EnvironmentStatus:
    """The one environment of that name.

    Raises:
        ConfigError: there is none, or several projects have one.
    """
    known = anyio.run(delivery.environments, project)
    found = [status for status in known if status.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"environment {name}",
            got="one each of " + ", ".join(status.project for status in found),
            hint="say which with --project",
        )
    names = sorted({status.name for status in known})
    raise ConfigError(
        f"environment {name} does not exist here",
        expected="one of " + ", ".join(names) if names else "one that was deployed to",
    )


def _doctor() -> int:
    """Tell what this machine can and cannot do, and what to do about it."""
    from ci import doctor  # noqa: PLC0415 - nothing else needs it

    checks = anyio.run(doctor.examine, Settings.from_environment())
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.health.value:<8} {check.name:<{width}}  {check.found}")
        if check.hint:
            print(f"{'':8} {'':{width}}  hint: {check.hint}")
    return (
        exits.ERRORED
        if any(check.health is doctor.Health.MISSING for check in checks)
        else exits.PASSED
    )
