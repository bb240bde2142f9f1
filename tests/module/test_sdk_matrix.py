"""Every stage through the module, with each SDK, and through `ci`: the same evidence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ci.engine.vertices.vertex import DirectoryRef, HostDirectory
from ci.settings import Settings
from tests.module.conftest import PYTHONS, ROOT
from tests.module.host import hosted

# The first to need an image makes or pulls it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CI = Path(sys.executable).with_name("ci")
LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
#: Deliveries are not for every engine.
SKIPPED = ["deploy-development", "deploy-staging", "deploy-production"]
#: Of a run and its nodes: what differs from run to run and from engine to engine.
DIFFERS = {
    "id", "started_at", "finished_at", "engine", "images", "execs", "cached_execs", "commands",
}  # fmt: skip
#: Tell of the run, not of the source.
ABOUT = {"run.json", "report.html"}

#: What is written into a copy of gym-api, and the stages that it makes fail.
FAULTS: Mapping[str, tuple[Mapping[str, str], set[str]]] = {
    "sound": ({}, set()),
    "faulty": (
        {
            "src/gym_api/fault.py": "import os\n\nTOTAL: int = 'one'\n\n\n"
            "def total(text: str) -> int:\n    return eval(text)\n",
            "tests/unit/test_fault.py": "def test_fault() -> None:\n    assert 1 + 1 == 3\n",
        },
        {"format", "lint", "types", "unit", "quality"},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to, less what differs from run to run."""

    exit_code: int
    nodes: Mapping[str, Any]
    record: Mapping[str, Any]
    reports: Mapping[str, bytes]


def outcome(folder: Path) -> Outcome:
    """Of the run whose files are in the folder."""
    record = without(json.loads((folder / "run.json").read_text()), DIFFERS)
    nodes = {node["name"]: without(node, DIFFERS) for node in record.pop("nodes")}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ABOUT]
    return Outcome(
        exit_code=record["exit_code"],
        nodes=nodes,
        record=record,
        reports={str(path.relative_to(folder)): path.read_bytes() for path in files},
    )


def without(of: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in of.items() if key not in keys}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vulnerability database."""
    folder = tmp_path_factory.mktemp("database")
    make = ROOT / "examples" / "trivy-db" / "make.py"
    subprocess.run([sys.executable, str(make), str(folder)], check=True)
    return folder


async def through_the_module(source: Path, database: Path, scratch: Path) -> Sequence[Outcome]:
    """`run` of the module, with each SDK."""
    outcomes = []
    with pytest.MonkeyPatch.context() as patch:
        async with hosted(scratch, Settings.from_environment().cache, patch) as host:
            for name, python in PYTHONS.items():
                called = await host.call(
                    python,
                    "Ci",
                    "run",
                    ws=host.workspace(source),
                    database=DirectoryRef(tree=HostDirectory(path=str(database))),
                    skip=SKIPPED,
                )
                assert called.value, called.error
                reports = host.context.get(called.value["reports"], DirectoryRef)
                await host.context.solver.export_directory(reports, scratch / name, wipe=True)
                outcomes.append(outcome(scratch / name))
    return outcomes


def through_ci(source: Path, database: Path, state: Path) -> Outcome:
    """`ci pipeline` in a folder."""
    command: list[str | Path] = [
        CI,
        "pipeline",
        f"--database={database}",
        *(f"--skip={name}" for name in SKIPPED),
    ]
    environ = {**os.environ, "TOWPATH_STATE": str(state)}
    done = subprocess.run(
        command, cwd=source, env=environ, capture_output=True, text=True, check=False
    )
    folders = list((source / ".towpath" / "runs").glob("*Z-*"))
    assert len(folders) == 1, done.stderr
    return outcome(folders[0])


@pytest.mark.parametrize("faults", FAULTS)
async def test_evidence_is_the_same_with_each_sdk_and_with_ci(
    faults: str, database: Path, tmp_path: Path
):
    source = tmp_path / "gym-api"
    shutil.copytree(ROOT / "examples" / "gym-api", source, ignore=LEFT_BEHIND)
    written, failing = FAULTS[faults]
    for path, text in written.items():
        (source / path).write_text(text)
    scratch = tmp_path / "host"
    scratch.mkdir()

    newest, oldest = await through_the_module(source, database, scratch)
    own = through_ci(source, database, tmp_path / "state")

    assert {name for name, node in newest.nodes.items() if node["status"] == "failed"} == failing
    assert newest.exit_code == bool(failing)
    assert len(newest.nodes) >= 15
    assert newest == oldest
    assert newest == own


PROGRAM = """
import sys

sys.modules["dagger.provisioning"] = None
import anyio
import dagger
from ci import stages


async def main():
    async with await dagger.connect():
        output = await stages.lint(dagger.dag.host().directory("."))
        print(output.evidence.status, output.evidence.summary)


anyio.run(main)
"""


@pytest.mark.parametrize("sdk", PYTHONS)
def test_a_program_of_its_own_runs_a_stage_in_an_environment_without_extras(
    sdk: str, tmp_path: Path
):
    (tmp_path / "unused.py").write_text("import os\n")
    command: list[str | Path] = [CI, "engine", "run", "--", PYTHONS[sdk], "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "failed 1 finding\n"
