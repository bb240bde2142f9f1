"""``gym-api serve`` and ``gym-api migrate``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TypedDict

import uvicorn

from gym_api import __version__, log, migrate
from gym_api.app import create_app
from gym_api.postgres import PostgresStore
from gym_api.settings import Settings, SettingsError


class ServerOptions(TypedDict):
    """What we tell uvicorn."""

    host: str
    port: int
    log_config: None
    access_log: bool
    server_header: bool
    timeout_graceful_shutdown: int


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ if environment is None else environment)
    except SettingsError as error:
        print(f"gym-api: {error}", file=sys.stderr)  # noqa: T201
        return 64
    log.configure(settings.log_level)
    if options.command == "migrate":
        migrate.upgrade(settings.database_url, offline=options.sql)
    else:
        uvicorn.run(
            create_app(
                PostgresStore(settings.database_url, pool_size=settings.pool_size),
                version=settings.version,
            ),
            **server_options(settings),
        )
    return 0


def server_options(settings: Settings) -> ServerOptions:
    """How uvicorn listens and stops: SIGTERM lets requests in flight finish."""
    return {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": settings.shutdown_seconds,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gym-api", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="answer requests on HOST and PORT")
    migration = commands.add_parser("migrate", help="bring the database to the newest schema")
    migration.add_argument("--sql", action="store_true", help="print the SQL instead")
    return parser
