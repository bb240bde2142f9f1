"""The format stage: is the code formatted as its repository asks?"""

from __future__ import annotations

import re

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings.fingerprint import Draft, seal
from ci.stages.python_environment import SOURCE, project_of
from ci.stages.ruff import FORMAT, judged, with_ruff
from ci.toolchains.python import PythonProject
from ci.values import Evidence, Finding, Output, Place, Severity, Status

__all__ = ["format"]

#: Lately ruff formats the code in Markdown files too; that is no fault of the code.
_PYTHON = (".py", ".pyi", ".ipynb")
#: As ruff before 0.15 says it, and since.
_WOULD = re.compile(r"^(?:Would reformat: | *--> )(.+?)(?::\d+:\d+)?$", re.MULTILINE)


async def format(  # noqa: A001 - the stage's name
    source: dagger.Directory, *, toolchain: PythonProject | None = None
) -> Output[None]:
    """Check the formatting with ruff, where the repository has chosen a formatter like it.

    Args:
        source: The repository.
        toolchain: What it says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or no [tool.ruff] or [tool.black] to format by.
        StageErrored: ruff could not read the code or its configuration.
    """
    project = toolchain or await project_of(source)
    if not project.uses("ruff", "black"):
        raise StageSkipped("no formatter is chosen", hint="add [tool.ruff] to pyproject.toml")
    container, version = with_ruff(project)
    container = container.with_directory(SOURCE, source)
    width = [] if project.uses("ruff") or not project.line_length else [project.line_length]
    options = [f"--line-length={each}" for each in width]
    ran, scanner = await judged(container, version, FORMAT, *options)
    said = ran.stdout + ran.stderr
    named = set(_WOULD.findall(said)) if ran.code else set()
    if ran.code and not named:
        raise StageErrored("ruff", got=f"exit code {ran.code}\n{said.strip()}")
    paths = sorted(path for path in named if path.endswith(_PYTHON))
    drafts = [Draft(_finding(path)) for path in paths]
    count = len(paths)
    return Output(
        evidence=Evidence(
            stage="format",
            status=Status.FAILED if count else Status.PASSED,
            summary=f"{count} file{'s' * (count != 1)} not formatted" if count else "formatted",
            findings=seal(drafts),
            scanners=(scanner,),
            log=said if count else "",
        ),
        reports={"format.txt": ran.stdout} if count else {},
    )


def _finding(path: str) -> Finding:
    return Finding(
        scanner="ruff",
        rule="format",
        severity=Severity.LOW,
        message="not formatted; `ruff format` cures it",
        place=Place(path=path),
        fingerprint="",
        url="https://docs.astral.sh/ruff/formatter/",
    )
