from __future__ import annotations

import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from gym_api import migrate
from gym_api.tables import metadata


def test_the_migrations_make_the_tables_that_the_code_expects(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)


def test_migrators_at_the_same_time_do_not_disturb_each_other(
    database_url: str, environment: dict[str, str]
) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    command = [sys.executable, "-c", "from gym_api.cli import main; main(['migrate'])"]
    migrators = [subprocess.Popen(command, env=environment) for _ in range(3)]  # noqa: S603
    assert [migrator.wait() for migrator in migrators] == [0, 0, 0]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()
