"""Stages, on the session that the environment names, else on the embedded engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import dagger
import pytest

from tests.sdk_session import embedded_session

ROOT = Path(__file__).parents[3]

Folder: TypeAlias = Callable[[Mapping[str, str]], dagger.Directory]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first to need an image makes or pulls it."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """A session for the tests of a file; nothing is started where the environment names one."""
    if "DAGGER_SESSION_PORT" in os.environ:
        yield
        return
    with embedded_session():
        yield


@pytest.fixture
async def dag(session: None) -> AsyncIterator[dagger.Client]:
    """A client of the session."""
    connection = dagger.connection()
    await connection.__aenter__()
    yield dagger.dag
    await connection.__aexit__(None, None, None)


@pytest.fixture
def folder(dag: dagger.Client) -> Folder:
    """Makes a folder of files, by path and text."""

    def make(files: Mapping[str, str]) -> dagger.Directory:
        made = dag.directory()
        for path, text in files.items():
            made = made.with_new_file(path, text)
        return made

    return make


@pytest.fixture(scope="session")
def small_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small vulnerability database of examples/trivy-db."""
    made = tmp_path_factory.mktemp("trivy-db")
    generator = ROOT / "examples" / "trivy-db" / "make.py"
    subprocess.run([sys.executable, generator, made], check=True)
    return made


@pytest.fixture
def database(dag: dagger.Client, small_database: Path) -> dagger.Directory:
    """The same, as stages get it."""
    return dag.host().directory(str(small_database))
