"""Calls of the module's functions through Dagger's SDKs, as an engine makes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ci.engine.vertices.vertex import DirectoryRef, FileRef, HostDirectory
from tests.module.api import Workspace
from tests.module.host import Host


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A repository without any code."""
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "README.md").write_text("# Plain\n")
    (folder / "ci.toml").write_text('[project]\nname = "plain"\n')
    return folder


async def test_the_source_is_the_workspace_where_none_is_given(
    host: Host, python: Path, plain: Path
):
    called = await host.call(python, "Ci", "graph", ws=host.workspace(plain), form="mermaid")
    assert called.code == 0, called.stderr
    assert called.value.startswith("flowchart")
    assert host.excluded
    for excluded in host.excluded:
        assert {".venv*", ".towpath", "**/node_modules"} <= set(excluded)


async def test_a_source_that_is_given_takes_its_place(
    host: Host, python: Path, plain: Path, tmp_path: Path
):
    empty = tmp_path / "empty"
    empty.mkdir()
    source = DirectoryRef(tree=HostDirectory(path=str(plain)))
    called = await host.call(python, "Ci", "graph", ws=host.workspace(empty), source=source)
    assert called.code == 0, called.stderr
    assert "quality" in called.value


async def test_an_error_keeps_its_hint_and_shows_no_traceback(
    host: Host, python: Path, plain: Path
):
    called = await host.call(python, "Ci", "graph", ws=host.workspace(plain), form="mermade")
    assert called.error
    assert called.error.message == (
        "FunctionError: --form: got 'mermade'; expected one of text, mermaid, svg"
        "\nhint: did you mean 'mermaid'?"
    )
    assert called.code == 2
    assert "Traceback" not in called.stderr


async def test_a_run_that_did_not_pass_is_an_error_that_says_all(
    host: Host, python: Path, plain: Path
):
    called = await host.call(python, "Ci", "pipeline", ws=host.workspace(plain), only=["lint"])
    assert called.error
    message = called.error.message
    assert message.startswith("FunctionError: ")
    assert "inconclusive" in message
    assert "no Python here" in message


async def test_a_run_is_an_object_whatever_its_verdict(host: Host, python: Path, plain: Path):
    called = await host.call(python, "Ci", "run", ws=host.workspace(plain), only=["lint"])
    assert called.code == 0, called.stderr
    run = called.value
    assert (run["outcome"], run["exit_code"]) == ("inconclusive", 2)
    reports = host.context.get(run["reports"], DirectoryRef)
    solver = host.context.solver
    entries = await solver.entries(reports)
    assert {"run.json", "report.html", "verdict", "findings.sarif"} <= set(entries)
    # What the engine does for `run verdict`: the object's fields come back as its state.
    judged = await host.call(python, "Run", "verdict", parent=run)
    assert judged.error
    assert judged.error.message == "FunctionError: " + run["summary"].rstrip()


@pytest.fixture
def service(tmp_path: Path, plain: Path) -> Path:
    """The same as a folder of a repository, all of it committed."""
    top = tmp_path / "top"
    folder = top / "services" / "plain"
    folder.parent.mkdir(parents=True)
    plain.rename(folder)
    (top / "README.md").write_text("# Top\n")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *identity, "-C", top, *arguments], check=True)
    return folder


async def source_of_run(host: Host, python: Path, workspace: Workspace) -> dict[str, Any]:
    called = await host.call(python, "Ci", "run", ws=workspace, only=["lint"])
    assert called.code == 0, called.stderr
    reports = host.context.get(called.value["reports"], DirectoryRef)
    record = await host.context.solver.read(FileRef(tree=reports.tree, path="/run.json"))
    return dict(json.loads(record)["source"])


async def test_a_folder_is_at_the_commit_of_the_repository_above_it(
    host: Host, python: Path, service: Path
):
    top = service.parent.parent
    head = (top / ".git" / "refs" / "heads" / "main").read_text().strip()
    (top / "README.md").write_text("# Changed elsewhere\n")
    (service / ".venv").mkdir()
    (service / ".venv" / "pyvenv.cfg").write_text("")
    workspace = host.workspace(service, boundary=top)
    source = await source_of_run(host, python, workspace)
    assert (source["commit"], source["branch"], source["dirty"]) == (head, "main", False)
    changed = shutil.copytree(top, top.with_name("changed"))
    (changed / "services" / "plain" / "new.txt").write_text("")
    workspace = host.workspace(changed / "services" / "plain", boundary=changed)
    assert (await source_of_run(host, python, workspace))["dirty"] is True


async def test_a_folder_above_which_the_engine_shows_nothing_has_no_commit(
    host: Host, python: Path, service: Path
):
    source = await source_of_run(host, python, host.workspace(service))
    assert (source["commit"], source["dirty"]) == ("", None)


async def test_the_nodes_that_are_named_are_run(host: Host, python: Path, plain: Path):
    called = await host.call(
        python, "Ci", "pipeline", ws=host.workspace(plain), only=["lint", "unit"], skip=["buidl"]
    )
    assert called.error
    assert called.error.message.startswith("FunctionError: no node buidl: ")
    assert called.error.message.endswith("\nhint: did you mean build?")


async def test_an_error_of_the_engine_stays_one(host: Host, python: Path, tmp_path: Path):
    called = await host.call(python, "Ci", "graph", ws=host.workspace(tmp_path / "missing"))
    assert called.error
    assert "missing" in called.error.message
    assert json.loads(dict(called.error.values)["exception.type"]) == "dagger.QueryError"
