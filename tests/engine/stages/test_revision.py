"""Whether a source is as it was committed, told by the engine where nobody on the machine can."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dagger
import pytest

from ci.inputs import IGNORED
from ci.repository import is_dirty
from ci.revision import changed, revision_of
from ci.stages.history import History, with_history

API = "services/api"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository, all of it committed, with what is never taken for a part of a source."""
    top = tmp_path / "top"
    files = {"app.py": "1\n", "sub/run.sh": "#!\n", "api.egg-info/PKG-INFO": "Name: api\n"}
    write(top / API, files)
    write(top, {"elsewhere": "1\n", ".gitignore": "*.log\n"})
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "first")
    return top


def source_of(dag: dagger.Client, top: Path, folder: str = "") -> dagger.Directory:
    source = dag.host().directory(str(top / folder), exclude=IGNORED)
    if not folder:
        return source
    git = dag.host().directory(str(top / ".git"))
    return with_history(source, History(git=git, folder=folder))


@pytest.mark.parametrize(
    ("files", "of_folder", "of_all"),
    [
        ({}, False, False),
        ({"elsewhere": "2\n"}, False, True),
        ({f"{API}/app.py": "2\n"}, True, True),
        ({f"{API}/new/file": ""}, True, True),
        ({f"{API}/a.log": ""}, False, False),
        ({f"{API}/.venv/bin/python": "", f"{API}/a/__pycache__/b": ""}, False, True),
        ({".venv-1/x": "", f"{API}/a/__pycache__/b": ""}, False, False),
    ],
)
async def test_the_engine_tells_what_git_would(
    dag: dagger.Client, top: Path, files: dict[str, str], of_folder: object, of_all: object
):
    write(top, files)
    for folder, expected in ((API, of_folder), ("", of_all)):
        assert await changed(source_of(dag, top, folder), IGNORED) is expected
        assert await is_dirty(top / folder, IGNORED) is expected


async def test_a_changed_mode_and_a_removed_file_are_changes(dag: dagger.Client, top: Path):
    (top / API / "sub/run.sh").chmod(0o755)
    assert await changed(source_of(dag, top, API), IGNORED)
    (top / API / "sub/run.sh").unlink()
    assert await changed(source_of(dag, top), IGNORED)


async def test_a_folder_that_was_never_committed_is_a_change(dag: dagger.Client, top: Path):
    write(top, {"services/new/app.py": "1\n"})
    source = source_of(dag, top, "services/new")
    assert await changed(source, IGNORED)
    assert (await revision_of(source)).commit == git(top, "rev-parse", "HEAD")


@pytest.fixture
def given_away(top: Path) -> Path:
    subprocess.run(["chown", "-R", "4321", top], check=True)
    return top


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_the_engine_is_asked_where_git_trusts_nobody_else(
    dag: dagger.Client, given_away: Path
):
    top = given_away
    assert await is_dirty(top / API, IGNORED) is None
    assert await changed(source_of(dag, top, API), IGNORED, top / API) is False


async def test_nobody_can_tell_of_a_history_that_is_not_whole(dag: dagger.Client, top: Path):
    (top / ".git" / "objects" / "info" / "alternates").write_text("/nowhere\n")
    assert await changed(source_of(dag, top), IGNORED) is None
    assert await changed(source_of(dag, top).without_directory(".git"), IGNORED) is None
