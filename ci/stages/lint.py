"""The lint stage: ruff, by the rules that the repository chose, or ruff's own."""

from __future__ import annotations

import dagger

from ci.errors import StageErrored
from ci.findings import sarif
from ci.stages.python_environment import SOURCE, base, project_of, run, with_tools
from ci.stages.tools import RUFF
from ci.values import Evidence, Output, Scanner, Status

__all__ = ["lint"]


async def lint(source: dagger.Directory) -> Output[None]:
    """Lint with ruff; any finding fails the stage.

    Raises:
        StageSkipped: there is no Python.
        StageErrored: ruff could not read the code or its configuration.
    """
    project = await project_of(source)
    container = with_tools(base(project), RUFF).with_directory(SOURCE, source).with_workdir(SOURCE)
    ran = await run(container, ["ruff", "check", "--no-cache", "--output-format=sarif", "."])
    report = sarif.parse(ran.stdout, scanner="ruff", root=SOURCE)
    if report.problems:
        raise StageErrored("ruff", got="\n".join(report.problems), expected="files it can read")
    name, _, version = RUFF.partition("==")
    count = len(report.findings)
    return Output(
        evidence=Evidence(
            stage="lint",
            status=Status.FAILED if count else Status.PASSED,
            summary=f"{count} finding{'s' * (count != 1)}" if count else "nothing found",
            findings=report.findings,
            scanners=(Scanner(name=name, version=version, proven=True, proof="exit code"),),
            log=ran.stderr,
        ),
        reports={"ruff.sarif": ran.stdout},
    )
