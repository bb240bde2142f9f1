"""Calls of the module's functions through Dagger's SDKs, as an engine makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ci.engine.vertices.vertex import DirectoryRef, HostDirectory
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
