"""What a pipeline is made for: the source, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import dagger

from ci import config
from ci.config import Config
from ci.errors import ConfigError, StageSkipped
from ci.records.run import SourceRecord
from ci.revision import revision_of
from ci.stages.python_environment import project_of
from ci.toolchains.python import PythonProject

__all__ = ["IGNORED", "Inputs", "read"]

#: Never part of a source: what tools and package managers leave behind.
IGNORED = [
    ".venv*", "**/__pycache__", "**/node_modules", ".towpath", "**/.mypy_cache",
    "**/.ruff_cache", "**/.pytest_cache", "**/.hypothesis", "**/*.egg-info", "**/.coverage",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a pipeline is made for."""

    source: dagger.Directory
    config: Config
    name: str
    revision: SourceRecord
    #: What the repository says of itself; None: it is none of Python.
    toolchain: PythonProject | None = None
    #: Trivy's database; None: the official one.
    database: dagger.Directory | None = None

    @cached_property
    def code(self) -> dagger.Directory:
        """The source less its history, so that a commit alone changes no stage's input."""
        return self.source.without_directory(".git")


async def read(source: dagger.Directory, database: dagger.Directory | None = None) -> Inputs:
    """What the source says of itself: ci.toml, pyproject.toml, and the commit that it is at.

    Raises:
        ConfigError: the source is empty, or its ci.toml is wrong.
    """
    entries = await source.entries()
    if not entries:
        raise ConfigError(
            "source", got="an empty folder", expected="a repository", hint="give --source=PATH"
        )
    text = await source.file(config.FILE_NAME).contents() if config.FILE_NAME in entries else ""
    parsed = config.parse(text)
    if database is None and parsed.database.path:
        database = source.directory(parsed.database.path)
    toolchain = await _toolchain(source.without_directory(".git"))
    return Inputs(
        source=source,
        config=parsed,
        name=parsed.project.name or _as_name(toolchain.name if toolchain else ""),
        toolchain=toolchain,
        revision=await revision_of(source),
        database=database,
    )


async def _toolchain(code: dagger.Directory) -> PythonProject | None:
    try:
        return await project_of(code)
    except StageSkipped:
        return None


def _as_name(text: str) -> str:
    """A name for images and environments: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63] or "project"
