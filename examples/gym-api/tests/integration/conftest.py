"""Needs DATABASE_URL: a PostgreSQL database that these tests may empty."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import gym_api
from gym_api import migrate
from gym_api.postgres import PostgresStore
from gym_api.settings import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def database_url() -> str:
    url = Settings.from_environment(os.environ).database_url
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    migrate.upgrade(url)
    return url


@pytest.fixture
def empty_database(database_url: str) -> str:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE organisation CASCADE"))
    engine.dispose()
    return database_url


@pytest.fixture
async def store(empty_database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(empty_database)
    yield store
    await store.close()


@pytest.fixture
def environment(empty_database: str) -> dict[str, str]:
    """For a process of the service."""
    source = str(Path(gym_api.__file__).parents[1])
    return {**os.environ, "DATABASE_URL": empty_database, "PYTHONPATH": source}
