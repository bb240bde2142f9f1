"""The unit stage: pytest, with its report and the coverage."""

from __future__ import annotations

import dagger

from ci.errors import StageSkipped
from ci.stages.pytest_run import Measure, pytest
from ci.stages.python_environment import environment, project_of
from ci.toolchains.python import PythonProject
from ci.values import Output

__all__ = ["unit"]

#: Folders of tests that have stages of their own.
_ELSEWHERE = ("integration", "smoke", "e2e")
#: Where the repository has configured nothing else.
_MEASURE = Measure(options=("--branch", "--omit=*/tests/*,*/test_*.py"))


async def unit(
    source: dagger.Directory, *, limit: int = 900, toolchain: PythonProject | None = None
) -> Output[None]:
    """Run tests/unit, or all tests but those of other stages, and measure coverage.

    Args:
        source: The repository.
        limit: Seconds that the suite may take.
        toolchain: What the repository says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or there are no tests.
        StageErrored: pytest could not run or collect the tests.
    """
    project = toolchain or await project_of(source)
    folder = await _folder(source)
    ignored = [f"--ignore={folder or '.'}/{name}" for name in _ELSEWHERE]
    # One of two that measure sees nothing.
    own = ["--no-cov"] if project.measures_coverage else []
    return await pytest(
        "unit",
        environment(project, source),
        [*([folder] if folder else []), *ignored, *own],
        limit=limit,
        measure=Measure() if project.uses("coverage") else _MEASURE,
    )


async def _folder(source: dagger.Directory) -> str:
    """The folder of the unit tests; empty where pytest is to find them itself.

    Raises:
        StageSkipped: no file looks like a test.
    """
    if await source.glob("tests/unit/**/test_*.py"):
        return "tests/unit"
    for folder in ("tests", "test"):
        if await source.glob(f"{folder}/**/*.py"):
            return folder
    if await source.glob("**/test_*.py") or await source.glob("**/*_test.py"):
        return ""
    raise StageSkipped("no tests here", expected="test_*.py in tests/ or elsewhere")
