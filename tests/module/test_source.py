"""What a Dagger engine makes of the repository when it loads the module from it.

The runtime of its Python SDK reads more than dagger.json: see ``sdk/python/runtime`` in
https://github.com/dagger/dagger.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import yaml

from tests.module.conftest import PYTHONS, ROOT

MODULE = json.loads((ROOT / "dagger.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXAMPLE = ROOT / "examples" / "custom-pipeline"


def test_no_file_is_taken_for_a_lock_of_the_module():
    """It would pin a dagger-io that the vendored one contradicts."""
    assert "!requirements.lock" in MODULE["include"]
    assert not (ROOT / "uv.lock").exists()


def test_the_vendored_sdk_without_a_version_satisfies_the_project():
    assert [each for each in PROJECT["dependencies"] if each.startswith("dagger-io")] == [
        "dagger-io"
    ]


def test_the_runtimes_image_can_be_named_after_the_python_version():
    """The runtime strips the operator and uses the rest as a tag."""
    assert re.fullmatch(r">=3\.\d+", PROJECT["requires-python"])


def test_the_sdk_of_the_modules_engine_is_the_one_that_is_tested():
    version = MODULE["engineVersion"].removeprefix("v")
    assert version in PYTHONS
    lock = (ROOT / f"requirements-dagger-{version}.lock").read_text()
    assert f"\ndagger-io=={version} " in lock
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        steps = [s for job in yaml.safe_load(workflow.read_text())["jobs"].values()
                 for s in job.get("steps", ())]  # fmt: skip
        installed = [s["with"]["version"] for s in steps if "dagger-for" in s.get("uses", "")]
        assert set(installed) <= {f"v{version}"}


def test_the_older_sdks_environment_has_nothing_that_the_project_does_not_name():
    program = "from importlib.metadata import distributions as d; print(*(x.name for x in d()))"
    listed = subprocess.run(
        [PYTHONS["0.20.3"], "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"dagger-io", "towpath"} <= set(listed)
    assert not {"uvicorn", "blake3", "cyclopts", "supervisor", "pathspec", "pytest"} & set(listed)


def test_the_example_takes_the_library_along():
    """Its module is in a folder of this repository, of which an engine loads what it names."""
    module = json.loads((EXAMPLE / "dagger.json").read_text())
    outside = [path for path in module["include"] if path.startswith("../")]
    taken = {(EXAMPLE / path).resolve() for path in outside}
    assert taken == {ROOT / "pyproject.toml", ROOT / PROJECT["readme"], ROOT / "ci"}
    assert all(path.exists() for path in taken)


def test_what_is_built_has_every_file_of_the_package_and_the_licence(tmp_path: Path):
    program = (
        "from hatchling.build import build_sdist, build_wheel\n"
        f"print(build_sdist({str(tmp_path)!r}), build_wheel({str(tmp_path)!r}))"
    )
    built = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sdist, wheel = built.stdout.split()[-2:]
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        held = set(archive.namelist())
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    with tarfile.open(tmp_path / sdist) as archive:
        assert f"{sdist.removesuffix('.tar.gz')}/LICENSE" in archive.getnames()
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "ci"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert held >= {name for name in listed.stdout.split() if (ROOT / name).exists()}
