"""A linked working tree, a submodule and a folder of a repository: commit, branch, history."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ci.records.run import RunRecord
from tests.cli.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def git(folder: Path, *arguments: str | Path) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *identity, "-c", "protocol.file.allow=always", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on the branch main."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(2):
        (folder / "app.py").write_text(f"VALUE = {number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"{number}")
    return folder


def scanned(ci: Cli, folder: Path) -> RunRecord:
    ran = ci("secrets", f"--source={folder}")
    assert ran.code == 0, ran
    return RunRecord.load(ci.runs[-1])


@pytest.mark.parametrize("kind", ["working tree", "submodule"])
def test_history_and_commit_are_found_through_a_link(
    ci: Cli, repository: Path, tmp_path: Path, kind: str
):
    if kind == "submodule":
        above, branch = tmp_path / "above", "main"
        above.mkdir()
        git(above, "init", "-q")
        folder = above / "linked"
        git(above, "submodule", "add", "-q", repository, "linked")
    else:
        folder, branch = tmp_path / "linked", "fix"
        git(repository, "worktree", "add", "-q", "-b", branch, folder)
    assert (folder / ".git").is_file()

    record = scanned(ci, folder)

    assert record.source.commit == git(repository, "rev-parse", "main")
    assert record.source.branch == branch
    assert record.source.dirty is False
    [node] = [node for node in record.nodes if node.name == "secrets"]
    assert node.evidence is not None
    assert node.evidence.summary == "nothing found in the files and 2 commits"


def test_a_link_that_leads_nowhere_is_no_repository(ci: Cli, tmp_path: Path):
    (tmp_path / "app.py").write_text("VALUE = 1\n")
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    record = scanned(ci, tmp_path)
    assert record.source.commit == ""
    assert record.source.dirty is None
    [node] = [node for node in record.nodes if node.name == "secrets"]
    assert node.evidence is not None
    assert "the history is not here" in node.evidence.summary


def test_a_folder_is_at_the_commit_of_the_repository_above_it(ci: Cli, repository: Path):
    service = repository / "services" / "an api"
    service.mkdir(parents=True)
    (service / "app.py").write_text("VALUE = 1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "service")
    (service / "new.py").write_text("VALUE = 2\n")

    ran = ci("secrets", f"--source={service}")

    commit = git(repository, "rev-parse", "main")
    assert ran.code == 0, ran
    assert f"at {commit[:12]} (with local changes): passed" in ran.out
    record = RunRecord.load(ci.runs[-1])
    assert (record.source.commit, record.source.dirty) == (commit, True)
    [node] = [node for node in record.nodes if node.name == "secrets"]
    assert node.evidence is not None
    assert node.evidence.summary == "nothing found in the files and 1 commit of services/an api"
    report = (ci.runs[-1] / "report.html").read_text()
    assert f"{commit[:9]} (with local changes)" in report
