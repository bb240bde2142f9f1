"""The conformance suite is run where nothing else of this repository is installed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "conformance"
#: pytest, the SDK, and what the SDK brings.
THERE = {"anyio", "dagger", "pytest", *sys.stdlib_module_names}
#: For the embedded engine, and only where it is installed.
FALLBACK = ("conftest.py", "tests")


def imported(file: Path) -> Iterator[str]:
    """Top packages that a file imports, at any place of it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("file", sorted(SUITE.glob("*.py")), ids=lambda file: file.name)
def test_a_file_of_the_suite_needs_pytest_and_the_sdk_only(file: Path):
    missing = {(file.name, name) for name in imported(file)} - {FALLBACK}
    assert not {name for _, name in missing} - THERE
