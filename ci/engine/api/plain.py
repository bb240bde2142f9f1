"""Fields that are attributes of the value."""

from __future__ import annotations

from ci.engine.api.context import Context
from ci.engine.api.values import EnvVariable, Label, Stat
from ci.engine.vertices.container import ExposedPort, Healthcheck

__all__ = [
    "args",
    "description",
    "experimental_skip_healthcheck",
    "file_type",
    "interval",
    "name",
    "permissions",
    "port",
    "protocol",
    "retries",
    "shell",
    "size",
    "start_interval",
    "start_period",
    "timeout",
    "value",
]


def name(value_: EnvVariable | Label | Stat, _: Context) -> str:
    """Of a variable, a label, a path."""
    return value_.name


def value(value_: EnvVariable | Label, _: Context) -> str:
    """Of a variable, a label."""
    return value_.value


def size(value_: Stat, _: Context) -> int:
    """In bytes."""
    return value_.size


def permissions(value_: Stat, _: Context) -> int:
    """As chmod takes them."""
    return value_.permissions


def file_type(value_: Stat, _: Context) -> str:
    """A name of FileType."""
    return value_.file_type


def port(exposed: ExposedPort, _: Context) -> int:
    """Its number."""
    return exposed.port


def protocol(exposed: ExposedPort, _: Context) -> str:
    """TCP or UDP."""
    return exposed.protocol


def description(exposed: ExposedPort, _: Context) -> str | None:
    """What the user said of it."""
    return exposed.description


def experimental_skip_healthcheck(exposed: ExposedPort, _: Context) -> bool:
    """Nobody waits for it."""
    return exposed.skip_healthcheck


def args(check: Healthcheck, _: Context) -> tuple[str, ...]:
    """The command."""
    return check.args


def shell(check: Healthcheck, _: Context) -> bool:
    """The command is for a shell."""
    return check.shell


def interval(check: Healthcheck, _: Context) -> str:
    """Between two checks."""
    return check.interval


def timeout(check: Healthcheck, _: Context) -> str:
    """Of one check."""
    return check.timeout


def start_period(check: Healthcheck, _: Context) -> str:
    """In which failures do not count."""
    return check.start_period


def start_interval(check: Healthcheck, _: Context) -> str:
    """Between two checks of the start period."""
    return check.start_interval


def retries(check: Healthcheck, _: Context) -> int:
    """Failures in a row that make it unhealthy."""
    return check.retries
