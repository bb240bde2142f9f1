"""The lint stage: ruff, by the rules that the repository chose, or ruff's own."""

from __future__ import annotations

import dagger

from ci.errors import StageSkipped
from ci.findings import sarif
from ci.stages.python_environment import SOURCE, project_of
from ci.stages.ruff import LINT, OWN_RULES, judged, with_ruff
from ci.stages.scanning import texts, unread
from ci.toolchains.python import PythonProject
from ci.values import Evidence, Output, Status

__all__ = ["lint"]


async def lint(source: dagger.Directory, *, toolchain: PythonProject | None = None) -> Output[None]:
    """Lint with ruff; any finding fails the stage, and so does a file that is no Python.

    Args:
        source: The repository.
        toolchain: What it says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python.
        StageErrored: ruff could not read its configuration.
    """
    project = toolchain or await project_of(source)
    container, version = with_ruff(project)
    container = container.with_directory(SOURCE, source)
    rules = [] if project.uses("ruff") else OWN_RULES
    ran, scanner = await judged(container, version, LINT, *rules, "--output-format=sarif")
    if "No Python files found" in ran.stderr:
        raise StageSkipped("no Python files to lint", expected="*.py")
    report = sarif.parse(ran.stdout, scanner="ruff", root=SOURCE)
    if report.findings:
        sources = await texts(source, report.findings)
        report = sarif.parse(ran.stdout, scanner="ruff", root=SOURCE, sources=sources)
    findings = (*report.findings, *unread("ruff", report.problems))
    count = len(findings)
    return Output(
        evidence=Evidence(
            stage="lint",
            status=Status.FAILED if count else Status.PASSED,
            summary=f"{count} finding{'s' * (count != 1)}" if count else "nothing found",
            findings=findings,
            scanners=(scanner,),
            log=ran.stderr,
        ),
        reports={"ruff.sarif": ran.stdout},
    )
