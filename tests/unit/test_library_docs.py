"""The Python of docs/library.md is taken from the page and used, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "library.md"

#: What is asked of the page's code, once all of its blocks are one module.
QUESTIONS = """
import json
import shop_ci

shop_ci.test_nothing_is_built_before_the_quality_gate()
smallest = shop_ci.pipeline(source=None)
larger = shop_ci.Pipeline("larger")
image, lint = larger.stage("build", shop_ci.main, None), larger.stage("lint", shop_ci.main, None)
shop_ci.delivered(larger, image, lint)
print(json.dumps({
    "smallest": {name: list(needs) for name, needs in smallest.graph.needs.items()},
    "larger": {name: list(needs) for name, needs in larger.graph.needs.items()},
    "gate": shop_ci.FewTodos().judge([]).outcome,
    "function": hasattr(shop_ci.Shop.pipeline, "__dagger_function__"),
}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_ci.py").write_text("\n".join(blocks))
    (folder / "ask.py").write_text(QUESTIONS)
    done = subprocess.run(
        [sys.executable, "ask.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_smallest_pipeline_has_the_edges_that_its_arguments_make(answers: Any) -> None:
    assert answers["smallest"] == {
        "prices": [],
        "lint": [],
        "quality": ["prices", "lint"],
        "build": ["quality"],
        "sbom": ["build"],
    }


def test_parts_of_nodes_make_edges_too(answers: Any) -> None:
    assert answers["larger"] == {
        "build": [],
        "lint": [],
        "staging": ["build"],
        "visit": ["staging"],
        "comment": ["lint", "staging"],
    }


def test_the_gate_and_the_dagger_object_are_what_they_say(answers: Any) -> None:
    assert answers["gate"] == "passed"
    assert answers["function"]
