"""The types stage: mypy, with the project's dependencies at hand so that imports resolve."""

from __future__ import annotations

import re

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings.fingerprint import Draft, line_text, seal
from ci.stages.batch import Command, Ended, batch
from ci.stages.python_environment import SOURCE, environment, project_of
from ci.stages.scanning import texts
from ci.toolchains.python import PythonProject
from ci.values import Evidence, Finding, Output, Place, Severity, Status

__all__ = ["types"]

#: Its plain output, which every version writes alike: JSON came with 1.11.
_COMMAND = [
    "mypy", "--no-incremental", "--no-error-summary", "--no-pretty", "--no-color-output",
    "--hide-error-context", "--show-error-codes", "--show-column-numbers",
]  # fmt: skip
_ERROR = re.compile(
    r"^(?P<path>.+?):(?P<line>\d+)(?::(?P<column>\d+))?: error: (?P<message>.*?)"
    r"(?:  \[(?P<code>[\w-]+)\])?$",
    re.MULTILINE,
)
#: What a repository without a configuration is not checked for.
_NOT_THE_CODE = re.compile(r"(docs?|examples?|tests?|build|dist|setup\.py|noxfile\.py)/?")


async def types(
    source: dagger.Directory, *, toolchain: PythonProject | None = None
) -> Output[None]:
    """Check the types with mypy, where the repository has declared that it has types.

    It has by a configuration of mypy, by naming mypy among its requirements, or by ``py.typed``.
    Without a configuration, imports of packages that have no types are let pass.

    Args:
        source: The repository.
        toolchain: What it says of itself, where that is known already.

    Raises:
        StageSkipped: there is no Python, or none that says it is typed.
        StageErrored: mypy crashed or could not read its configuration.
    """
    project = toolchain or await project_of(source)
    configured = project.uses("mypy")
    if not (configured or project.requires("mypy") or await source.glob("**/py.typed")):
        raise StageSkipped(
            "the code does not say that it is typed", hint="add [tool.mypy] to pyproject.toml"
        )
    ran = await _checked(environment(project, source), source, configured=configured)
    errors = _ERROR.findall(ran.stdout)
    if ran.code and not errors:
        said = (ran.stdout + ran.stderr).strip()
        raise StageErrored("mypy", got=f"exit code {ran.code}\n{said}")
    findings = [_finding(match) for match in _ERROR.finditer(ran.stdout)]
    # Stubs that are broken are named by where they are installed.
    own = [f for f in findings if f.place and not f.place.path.startswith(("/", ".."))]
    lines = await texts(source, own)
    return Output(
        evidence=Evidence(
            stage="types",
            status=Status.FAILED if errors else Status.PASSED,
            summary=f"{len(errors)} error{'s' * (len(errors) != 1)}" if errors else "no errors",
            findings=seal(Draft(finding, _identity(finding, lines)) for finding in findings),
            log=ran.stderr,
        ),
        reports={"mypy.txt": ran.stdout},
    )


async def _checked(
    container: dagger.Container, source: dagger.Directory, *, configured: bool
) -> Ended:
    """One run of mypy: of what its configuration names, else of the code that is there."""
    if configured:
        ran = await _run(container, _COMMAND)
        if "Missing target" not in ran.stdout + ran.stderr:
            return ran
        return await _run(container, [*_COMMAND, *await _targets(source)])
    return await _run(container, [*_COMMAND, "--ignore-missing-imports", *await _targets(source)])


async def _run(container: dagger.Container, args: list[str]) -> Ended:
    ended = await batch(container, {"mypy": Command(args=args, workdir=SOURCE)})
    return ended["mypy"].check(0, 1, 2)


async def _targets(source: dagger.Directory) -> list[str]:
    """``src``, else the packages and modules in the top folder."""
    entries = {entry.rstrip("/") for entry in await source.entries()}
    if "src" in entries:
        return ["src"]
    packages = {path.partition("/")[0] for path in await source.glob("*/__init__.py")}
    modules = {entry for entry in entries if entry.endswith(".py")}
    return sorted(each for each in packages | modules if not _NOT_THE_CODE.fullmatch(each)) or ["."]


def _identity(finding: Finding, lines: dict[str, str]) -> tuple[str, ...]:
    place = finding.place
    return ((line_text(lines, place.path, place.line) if place else "") or finding.message,)


def _finding(match: re.Match[str]) -> Finding:
    code = match["code"] or "misc"
    return Finding(
        scanner="mypy",
        rule=code,
        severity=Severity.MEDIUM,
        message=match["message"],
        place=Place(
            path=match["path"].removeprefix("./"),
            line=max(int(match["line"]), 1),
            column=int(match["column"]) if match["column"] else None,
        ),
        fingerprint="",
        url=f"https://mypy.readthedocs.io/en/stable/_refs.html#code-{code}",
    )
