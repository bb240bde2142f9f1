"""Brings a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def configuration(url: str) -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade(url: str, *, offline: bool = False) -> None:
    """Run the migrations that the database lacks; several callers at once wait for each other.

    ``offline`` prints their SQL instead.
    """
    command.upgrade(configuration(url), "head", sql=offline)
