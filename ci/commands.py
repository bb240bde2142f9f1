"""Commands that need this machine and so are no Dagger functions: environments, doctor.

They import no SDK.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import App, Parameter

from ci import exits
from ci.errors import ConfigError
from ci.settings import Settings

if TYPE_CHECKING:
    from ci.deploy.targets.local.delivery import EnvironmentStatus, LocalDelivery

__all__ = ["register"]

Project = Annotated[str, Parameter(help="Only this project's environments.")]
Name = Annotated[str, Parameter(help="The environment.")]


def register(app: App) -> None:
    """Add the commands."""
    app.command(_environments, name="environments")
    app.command(_rollback, name="rollback")
    app.command(_stop, name="stop")
    app.command(_doctor, name="doctor")


def _delivery() -> LocalDelivery:
    from ci.local_delivery import local_delivery  # noqa: PLC0415 - costly to import

    return local_delivery(Settings.from_environment())


def _environments(*, project: Project = "") -> int:
    """List the local environments: release, address, health."""
    delivery = _delivery()
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
    from ci.records.text import short_digest  # noqa: PLC0415 - costly to import

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
    from ci.records.text import short_digest  # noqa: PLC0415 - costly to import
    from ci.values import Outcome  # noqa: PLC0415 - as above

    delivery = _delivery()
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
    delivery = _delivery()
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
