"""The format stage: is the code formatted as its repository asks?"""

from __future__ import annotations

import re

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings.fingerprint import Draft, seal
from ci.stages.python_environment import SOURCE, project_of, run
from ci.stages.ruff import FORMAT, proven, with_ruff
from ci.values import Evidence, Finding, Output, Place, Severity, Status

__all__ = ["format"]

#: Lately ruff formats the code in Markdown files too; that is no fault of the code.
_PYTHON = (".py", ".pyi", ".ipynb")
#: As ruff before 0.15 says it, and since.
_WOULD = re.compile(r"^(?:Would reformat: | *--> )(.+?)(?::\d+:\d+)?$", re.MULTILINE)


async def format(source: dagger.Directory) -> Output[None]:  # noqa: A001 - the stage's name
    """Check the formatting with ruff, where the repository has chosen a formatter like it.

    Raises:
        StageSkipped: there is no Python, or no [tool.ruff] or [tool.black] to format by.
        StageErrored: ruff could not read the code or its configuration.
    """
    project = await project_of(source)
    if not project.uses("ruff", "black"):
        raise StageSkipped("no formatter is chosen", hint="add [tool.ruff] to pyproject.toml")
    container, version = with_ruff(project)
    scanner = await proven(container, version, FORMAT)
    container = container.with_directory(SOURCE, source).with_workdir(SOURCE)
    width = [] if project.uses("ruff") or not project.line_length else [project.line_length]
    ran = await run(container, [*FORMAT, *(f"--line-length={each}" for each in width), "."])
    paths = sorted(set(_WOULD.findall(ran.stdout + ran.stderr))) if ran.code else []
    paths = [path for path in paths if path.endswith(_PYTHON)]
    drafts = [Draft(_finding(path)) for path in paths]
    count = len(paths)
    if ran.code and not _WOULD.search(ran.stdout + ran.stderr):
        raise StageErrored("ruff", got=f"exit code {ran.code}\n{ran.log.strip()}")
    return Output(
        evidence=Evidence(
            stage="format",
            status=Status.FAILED if count else Status.PASSED,
            summary=f"{count} file{'s' * (count != 1)} not formatted" if count else "formatted",
            findings=seal(drafts),
            scanners=(scanner,),
            log=ran.log if count else "",
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
