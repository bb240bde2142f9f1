"""The types stage: mypy, with the project's dependencies at hand so that imports resolve."""

from __future__ import annotations

import json

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings.fingerprint import Draft, line_text, seal
from ci.stages.python_environment import environment, project_of, run
from ci.stages.tools import MYPY
from ci.values import Evidence, Finding, Output, Place, Severity, Status

__all__ = ["types"]


async def types(source: dagger.Directory) -> Output[None]:
    """Check the types with mypy, where the repository has declared that it has types.

    It has by a configuration of mypy, by naming mypy among its requirements, or by ``py.typed``.
    Without a configuration, imports of packages that have no types are let pass.

    Raises:
        StageSkipped: there is no Python, or none that says it is typed.
        StageErrored: mypy crashed or could not read its configuration.
    """
    project = await project_of(source)
    configured = project.uses("mypy")
    if not (configured or project.requires("mypy") or await source.glob("**/py.typed")):
        raise StageSkipped(
            "the code does not say that it is typed", hint="add [tool.mypy] to pyproject.toml"
        )
    container = await environment(project, source)
    # Files are named by the configuration; where it names none, all.
    command = ["mypy", "--output=json", "--no-incremental", "--no-error-summary"]
    command += [] if configured else ["--ignore-missing-imports"]
    ran = await run(container, command, accept=(0, 1, 2))
    if ran.code == 2 and "Missing target" in ran.log:
        ran = await run(container, [*command, "."], accept=(0, 1, 2))
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    errors = [row for row in rows if row.get("severity") == "error"]
    if ran.code and not errors:
        raise StageErrored("mypy", got=f"exit code {ran.code}\n{ran.log.strip()}")
    texts = await _texts(source, {row["file"] for row in errors})
    version = project.pinned("mypy") or MYPY.partition("==")[2]
    said = f"{len(errors)} error{'s' * (len(errors) != 1)}" if errors else "no errors"
    return Output(
        evidence=Evidence(
            stage="types",
            status=Status.FAILED if errors else Status.PASSED,
            summary=f"{said} (mypy {version})",
            findings=seal(
                Draft(_finding(row), (line_text(texts, row["file"], row["line"]) or "",))
                for row in errors
            ),
        ),
        reports={"mypy.jsonl": ran.stdout},
    )


async def _texts(source: dagger.Directory, paths: set[str]) -> dict[str, str]:
    return {path: await source.file(path).contents() for path in sorted(paths)}


def _finding(row: dict[str, object]) -> Finding:
    code = str(row.get("code") or "misc")
    hint = f" ({row['hint']})" if row.get("hint") else ""
    return Finding(
        scanner="mypy",
        rule=code,
        severity=Severity.MEDIUM,
        message=f"{row['message']}{hint}",
        place=Place(path=str(row["file"]), line=max(int(str(row["line"])), 1)),
        fingerprint="",
        url=f"https://mypy.readthedocs.io/en/stable/_refs.html#code-{code}",
    )
