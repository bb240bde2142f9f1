"""The unit stage: pytest, with its report and the coverage."""

from __future__ import annotations

import dagger

from ci.errors import StageSkipped
from ci.findings import coverage
from ci.stages.pytest_run import REPORTS, evidence_of, pytest
from ci.stages.python_environment import environment, project_of, run
from ci.values import Output

__all__ = ["unit"]

#: Folders of tests that have stages of their own.
_ELSEWHERE = ("integration", "smoke", "e2e")


async def unit(source: dagger.Directory, *, limit: int = 900) -> Output[None]:
    """Run tests/unit, or all tests but those of other stages, and measure coverage.

    Args:
        source: The repository.
        limit: Seconds that the suite may take.

    Raises:
        StageSkipped: there is no Python, or there are no tests.
        StageErrored: pytest could not run or collect the tests.
    """
    project = await project_of(source)
    folder = await _folder(source)
    container = await environment(project, source)
    branch = [] if project.uses("coverage") else ["--branch", "--omit=*/tests/*,*/test_*.py"]
    measured = container.with_env_variable("COVERAGE_FILE", f"{REPORTS}/.coverage")
    # One of two that measure sees nothing.
    own = ["--no-cov"] if project.measures_coverage else []
    ignored = [f"--ignore={folder or '.'}/{name}" for name in _ELSEWHERE]
    ran = await pytest(
        measured,
        ["python", "-m", "coverage", "run", *branch, "-m", "pytest"],
        [*([folder] if folder else []), *ignored, *own],
        limit=limit,
    )
    found, reports = await evidence_of("unit", ran)
    told = await run(
        ran.container, ["sh", "-c", f"python -m coverage combine -q; {_report()}"], accept=(0, 1, 2)
    )
    if told.code == 0:
        text = await told.container.file(f"{REPORTS}/coverage.json").contents()
        measure = coverage.parse(text)
        reports["coverage.xml"] = await told.container.file(f"{REPORTS}/coverage.xml").contents()
        found = found.model_copy(
            update={
                "coverage": measure,
                "summary": f"{found.summary}, coverage {measure.percent:.1f} %",
            }
        )
    return Output(evidence=found, reports=reports)


def _report() -> str:
    """Both reports; the project's own ``fail_under`` is no fault of the reporter."""
    return " && ".join(
        f"python -m coverage {form} -q --fail-under=0 -o {REPORTS}/coverage.{form}"
        for form in ("json", "xml")
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
