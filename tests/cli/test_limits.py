"""What ci.toml says of the limits of commands holds for whatever runs in its folder."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from tests.cli.conftest import Cli

PROGRAM = """
import uuid, anyio, dagger

async def main():
    async with dagger.connection():
        base = dagger.dag.container().from_("debian:bookworm-slim")
        base = base.with_env_variable("ONCE", uuid.uuid4().hex)
        print(await base.with_exec(["sh", "-c", "ulimit -n"]).stdout())

anyio.run(main)
"""

PIPELINE = """
import uuid, dagger
from ci.flow import Pipeline, StageFailed

async def limit(source: dagger.Directory) -> None:
    base = dagger.dag.container().from_("debian:bookworm-slim")
    base = base.with_mounted_directory("/source", source)
    base = base.with_env_variable("ONCE", uuid.uuid4().hex)
    raise StageFailed("files: " + await base.with_exec(["sh", "-c", "ulimit -n"]).stdout())

def pipeline(source: dagger.Directory) -> Pipeline:
    p = Pipeline("limited")
    p.stage("limit", limit, source)
    return p
"""


@pytest.fixture
def limited(ci: Cli) -> Cli:
    (ci.folder / "ci.toml").write_text(
        '[project]\npipeline = "limited:pipeline"\n[engine]\nopen_files = 77\n'
    )
    (ci.folder / "limited.py").write_text(PIPELINE)
    return ci


def test_they_hold_for_any_program_and_the_machine_has_the_last_word(limited: Cli) -> None:
    ran = limited("engine", "run", "--", sys.executable, "-c", PROGRAM)
    assert (ran.code, ran.out.strip()) == (0, "77"), ran
    machine = replace(limited, environ={"TOWPATH_OPEN_FILES": "78"})
    ran = machine("engine", "run", "--", sys.executable, "-c", PROGRAM)
    assert (ran.code, ran.out.strip()) == (0, "78"), ran


def test_they_hold_for_the_pipeline(limited: Cli) -> None:
    ran = limited("pipeline")
    assert ran.code == 1, ran
    assert "files: 77" in ran.err, ran


def test_a_wrong_one_is_told_before_anything_runs(limited: Cli) -> None:
    (limited.folder / "ci.toml").write_text('[engine]\nmemory = "much"\n')
    for command in (["engine", "run", "--", "touch", "ran"], ["lint"]):
        ran = limited(*command)
        assert ran.code == 64, ran
        assert "ci.toml:2: engine.memory: got 'much'; expected a size, as 512M or 2GiB" in ran.err
    assert not (limited.folder / "ran").exists()
