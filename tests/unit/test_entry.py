"""Which main object Dagger's SDK gets, with and without a module that uses Towpath as a library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = "from dagger.mod.cli import get_entry_point; print(get_entry_point().load().__name__)"
OBJECTS = (
    "import {}; from dagger.mod._module import Module;"
    "import gc; print([n for m in gc.get_objects() if isinstance(m, Module) for n in m._objects])"
)


def python(program: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def distribution(folder: Path) -> Path:
    """A module that is installed beside Towpath."""
    information = folder / "shop-1.0.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0.0\n")
    (information / "entry_points.txt").write_text("[dagger.mod]\nmain_object = shop_ci:Shop\n")
    (folder / "shop_ci.py").write_text("import ci.flow\nclass Shop: ...\n")
    return folder


def test_alone_it_is_ci():
    assert python(LOAD) == "Ci"


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_module_that_uses_the_library_keeps_its_own(tmp_path: Path, ours_first: bool):  # noqa: FBT001
    other = distribution(tmp_path)
    where = "len(sys.path)" if ours_first else "0"
    assert python(f"import sys; sys.path.insert({where}, {str(other)!r}); {LOAD}") == "Shop"


def test_the_library_adds_no_objects_to_the_module_that_uses_it():
    assert python(OBJECTS.format("ci.module")) == "['Run', 'Ci']"
    assert python(OBJECTS.format("ci.flow")) == "[]"
