"""examples/custom-pipeline: what the library promises to other repositories, kept."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ci.config import parse
from ci.flow import Pipeline
from ci.pipeline import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom-pipeline"


def test_its_own_tests_pass_without_an_engine():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    done = subprocess.run(command, check=False, cwd=EXAMPLE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_finds_the_pipeline_that_it_declares(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    declared = parse((EXAMPLE / "ci.toml").read_text()).project.pipeline
    made = load(declared, EXAMPLE)(None)  # type: ignore[arg-type]
    assert isinstance(made, Pipeline)
    assert [plan.name for plan in made.plan] == ["prices", "lint", "quality", "page"]


def test_its_module_and_ours_are_for_the_same_engine():
    theirs, ours = (
        json.loads((folder / "dagger.json").read_text()) for folder in (EXAMPLE, EXAMPLE.parents[1])
    )
    assert theirs["engineVersion"] == ours["engineVersion"]
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["towpath"]
    assert project["entry-points"]["dagger.mod"] == {"main_object": "shop_ci:Shop"}
