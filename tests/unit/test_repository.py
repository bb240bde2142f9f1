"""Where git keeps a folder's history, and whether the folder is as it was committed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci.repository import Repository, is_dirty


def git(folder: Path, *arguments: str | Path) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *identity, "-C", folder, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with services/api and services/web, and one commit."""
    top = tmp_path / "top"
    for name in ("api", "web"):
        (top / "services" / name).mkdir(parents=True)
        (top / "services" / name / "app.py").write_text("VALUE = 1\n")
    (top / ".gitignore").write_text("*.log\n")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "first")
    return top


def test_a_folder_is_of_the_nearest_repository_above_it(top: Path):
    found = Repository.of(top / "services" / "api")
    assert found == Repository(own=top / ".git", common=top / ".git", folder="services/api")
    assert not found.linked
    assert Repository.of(top) == Repository(own=top / ".git", common=top / ".git", folder="")


def test_a_folder_of_a_linked_working_tree_has_the_history_of_all(top: Path, tmp_path: Path):
    git(top, "worktree", "add", "-q", "-b", "fix", tmp_path / "tree")
    found = Repository.of(tmp_path / "tree" / "services" / "web")
    assert found
    assert found.linked
    assert (found.own, found.common) == (top / ".git/worktrees/tree", top / ".git")
    assert found.folder == "services/web"


def test_a_symlink_leads_to_the_repository_of_its_target(top: Path, tmp_path: Path):
    (tmp_path / "elsewhere").symlink_to(top / "services" / "api")
    found = Repository.of(tmp_path / "elsewhere")
    assert found
    assert found.folder == "services/api"


def test_a_folder_of_no_repository_has_none(tmp_path: Path):
    assert Repository.of(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert Repository.of(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_repository_that_somebody_else_placed_above_is_not_taken(top: Path):
    os.chown(top, 4321, 4321)
    assert Repository.of(top / "services" / "api") is None
    os.chown(top / "services" / "api", 4321, 4321)
    assert Repository.of(top / "services" / "api")


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        ({}, False),
        ({"services/api/app.py": "VALUE = 2\n"}, True),
        ({"services/api/new.py": ""}, True),
        ({"services/api/deep/new.py": ""}, True),
        ({"services/api/a.log": ""}, False),
        ({"services/web/app.py": "VALUE = 2\n", "new.py": ""}, False),
        ({"services/api/.venv/bin/python": "", "services/api/.venv-2/pyvenv.cfg": ""}, False),
        ({"services/api/x/__pycache__/app.pyc": ""}, False),
        ({"services/api/x/__pycache__/app.pyc": "", "services/api/x/app.py": ""}, True),
    ],
)
async def test_dirty_is_what_git_says_of_the_folder(
    top: Path, change: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, dirty: bool
):
    for path, text in change.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    monkeypatch.setenv("GIT_DIR", str(top / "not-this-one"))
    assert await is_dirty(top / "services" / "api", [".venv*", "**/__pycache__"]) is dirty


async def test_a_removed_and_a_staged_file_are_changes(top: Path):
    (top / "services/web/app.py").unlink()
    assert await is_dirty(top / "services/web", [])
    (top / "services/api/app.py").write_text("VALUE = 2\n")
    git(top, "add", "services/api")
    assert await is_dirty(top / "services/api", [])


async def test_nobody_can_tell_without_git_or_without_a_repository(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert await is_dirty(tmp_path, []) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await is_dirty(top, []) is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("filter.mine.clean", "touch RAN; cat", None),
        ("filter.mine.process", "touch RAN", None),
        ("FILTER.mine.clean", "touch RAN; cat", None),
        ("include.path", "more", None),
        ("core.fsmonitor", "touch RAN; false", True),
        ("core.hooksPath", "hooks", True),
    ],
)
async def test_what_a_repository_would_have_git_run_is_not_run(
    top: Path, name: str, value: str, *, told: bool | None
):
    ran = top.parent / "ran"
    (top / ".git" / "more").write_text(f'[filter "mine"]\n\tclean = "touch {ran}; cat"\n')
    git(top, "config", name, value.replace("RAN", str(ran)))
    (top / ".git" / "hooks" / "post-index-change").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (top / ".git" / "hooks" / "post-index-change").chmod(0o755)
    (top / "services/api/.gitattributes").write_text("* filter=mine\n")
    (top / "services/api/app.py").write_text("VALUE = 3\n")
    assert await is_dirty(top / "services" / "api", []) is told
    assert not ran.exists()


async def test_filters_of_the_user_are_the_users(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tmp_path / "gitconfig"
    config.write_text('[filter "lfs"]\n\tclean = cat\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert await is_dirty(top, []) is False
