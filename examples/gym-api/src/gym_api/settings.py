"""What the environment says; read once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gym_api import __version__

#: Who reaches a container is for its network to say.
EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 # nosec B104
LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """A variable is missing or has a value that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that differs from one place to another."""

    #: For SQLAlchemy, with the psycopg driver. It holds a password: never shown.
    database_url: str = field(repr=False)
    host: str
    port: int
    version: str
    log_level: str
    pool_size: int
    #: How long requests in flight may take after SIGTERM.
    shutdown_seconds: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings in these variables.

        Raises:
            SettingsError: names the variable.
        """
        level = environment.get("GYM_API_LOG_LEVEL", "info").lower()
        if level not in LOG_LEVELS:
            raise SettingsError(f"GYM_API_LOG_LEVEL: got {level!r}; expected one of {LOG_LEVELS}")
        return cls(
            database_url=_database_url(environment.get("DATABASE_URL", "")),
            host=environment.get("HOST", EVERY_INTERFACE),
            port=_number(environment, "PORT", 8000, most=65535),
            version=environment.get("GYM_API_VERSION") or __version__,
            log_level=level,
            pool_size=_number(environment, "GYM_API_POOL_SIZE", 5, most=100),
            shutdown_seconds=_number(environment, "GYM_API_SHUTDOWN_SECONDS", 10, most=600),
        )


def _database_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise SettingsError("DATABASE_URL: expected postgresql://user:password@host:port/name")
    return f"postgresql+psycopg://{rest}"


def _number(environment: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise SettingsError(f"{name}: got {text!r}; expected a whole number from 1 to {most}")
    return int(text)
