"""The lint stage: ruff, by the rules that the repository chose, or ruff's own."""

from __future__ import annotations

import dagger

from ci.errors import StageSkipped
from ci.findings import sarif
from ci.stages.python_environment import SOURCE, project_of, run
from ci.stages.ruff import LINT, OWN_RULES, proven, with_ruff
from ci.stages.scanning import texts, unread
from ci.values import Evidence, Output, Status

__all__ = ["lint"]


async def lint(source: dagger.Directory) -> Output[None]:
    """Lint with ruff; any finding fails the stage, and so does a file that is no Python.

    Raises:
        StageSkipped: there is no Python.
        StageErrored: ruff could not read its configuration.
    """
    project = await project_of(source)
    container, version = with_ruff(project)
    scanner = await proven(container, version, LINT)
    container = container.with_directory(SOURCE, source).with_workdir(SOURCE)
    rules = [] if project.uses("ruff") else OWN_RULES
    ran = await run(container, [*LINT, *rules, "--output-format=sarif", "."])
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
