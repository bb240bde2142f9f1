"""One run of pytest: its exit codes told apart, its reports read."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import dagger
from dagger import ReturnType

from ci.errors import StageErrored, StageSkipped
from ci.findings import coverage, junit
from ci.values import Evidence, Output, Status

__all__ = ["Measure", "pytest"]

_REPORTS = "/reports"
_JUNIT = f"{_REPORTS}/junit.xml"
_ANSWER = f"{_REPORTS}/answer"
#: Begins a part of the answer. No report has it.
_MARK = "--towpath-pytest-5e1c09:"
#: https://docs.pytest.org/en/stable/reference/exit-codes.html
_FAILED, _INTERRUPTED, _NO_TESTS = 1, 2, 5
#: Of timeout(1), when it had to end the command.
_TIMED_OUT = 124
#: Of our script, where the command's own would say that a signal ended the script.
_KILLED = 125
#: Seconds after SIGABRT.
_GRACE = 10
_TAIL = 8000


@dataclass(frozen=True, kw_only=True)
class Measure:
    """That coverage is measured, and how: options of ``coverage run``."""

    options: tuple[str, ...] = ()


async def pytest(
    stage: str,
    container: dagger.Container,
    arguments: list[str],
    *,
    limit: int,
    measure: Measure | None = None,
) -> Output[None]:
    """Run a suite and tell its evidence: failed where a test is, or where tests cannot be loaded.

    Args:
        stage: Whose evidence it is.
        container: What it runs in.
        arguments: Of pytest, beside those for the reports.
        limit: Seconds that the whole suite may take. Then SIGABRT has pytest's faulthandler show
            where each thread is, so that a suite that hangs tells by which test.
        measure: How coverage is measured, if it is.

    Raises:
        StageSkipped: it found no tests.
        StageErrored: it could not run them (a usage error, an internal one, a broken conftest),
            did not end within ``limit``, or was killed.
        ReportError: it left a report that cannot be read.
        ExecError: something that comes before it failed.
    """
    script = _script(arguments, limit=limit, measure=measure)
    ended = container.with_exec(["sh", "-c", script], expect=ReturnType.ANY)
    parts = _parts(await ended.file(_ANSWER).contents())
    code = int(parts["code"])
    if code == _NO_TESTS:
        raise StageSkipped("pytest found no tests")
    log = (await ended.stdout() + await ended.stderr())[-_TAIL:].strip() if code else ""
    tests = junit.parse(parts["junit"]) if parts["junit"] else None
    # Modules that cannot be loaded end it with 2 and a report that names them.
    is_told = code in (0, _FAILED) or (code == _INTERRUPTED and tests and tests.counts.total)
    if not is_told or tests is None:
        raise _error(code, log, limit)
    measured = coverage.parse(parts["coverage.json"]) if parts.get("coverage.json") else None
    counts = tests.counts.model_dump()
    said = [f"{counts[word]} {word}" for word in ("failed", "errored", "skipped") if counts[word]]
    said += [f"coverage {measured.percent:.1f} %"] if measured else []
    passed = f"{counts['passed']} test{'s' * (counts['passed'] != 1)} passed"
    reports = {"junit.xml": parts["junit"]}
    reports |= {"coverage.xml": parts["coverage.xml"]} if measured else {}
    evidence = Evidence(
        stage=stage,
        status=Status.FAILED if code else Status.PASSED,
        summary=", ".join([passed, *said]),
        tests=tests,
        coverage=measured,
        log=log,
    )
    return Output(evidence=evidence, reports=reports)


def _error(code: int, log: str, limit: int) -> StageErrored:
    if code == _TIMED_OUT:
        return StageErrored(
            "pytest",
            got=f"no end within {limit} s\n{log}",
            expected="a suite that ends",
            hint="the stacks above show where it hangs",
        )
    if code > 128:
        return StageErrored(
            "pytest",
            got=f"signal {code - 128}\n{log}",
            expected="an end of its own",
            hint="the machine may be short of memory" if code == 128 + 9 else "",
        )
    return StageErrored("pytest", got=f"exit code {code}\n{log}", expected="tests that can run")


def _script(arguments: list[str], *, limit: int, measure: Measure | None) -> str:
    """Pytest, whose output is seen as it comes, and then all reports in one file."""
    run = ["python", "-m"]
    if measure is not None:
        run += ["coverage", "run", *measure.options, "-m"]
    suite = [
        "timeout", "--signal=ABRT", f"--kill-after={_GRACE}", str(limit),
        *run, "pytest", "-p", "no:cacheprovider", f"--junitxml={_JUNIT}", *arguments,
    ]  # fmt: skip
    # The comment is what the script is called where people see it.
    lines = ["# " + " ".join(shlex.join([*run, "pytest", *arguments]).split())]
    lines += [f"mkdir -p {_REPORTS}", f"export COVERAGE_FILE={_REPORTS}/.coverage"]
    lines += [shlex.join(suite), "code=$?"]
    parts = {"junit": _JUNIT}
    if measure is not None:
        # The project's own threshold is no fault of the reporter; ours is the gate's to judge.
        lines.append("python -m coverage combine --quiet > /dev/null 2>&1")
        for form in ("json", "xml"):
            path = parts[f"coverage.{form}"] = f"{_REPORTS}/coverage.{form}"
            lines.append(f"python -m coverage {form} --quiet --fail-under=0 -o {path} >&2")
    lines.append(f"printf '%s\\n' '{_MARK}code' \"$code\" > {_ANSWER}")
    for name, path in parts.items():
        lines.append(f"printf '\\n%s\\n' '{_MARK}{name}' >> {_ANSWER}")
        lines.append(f"cat {path} >> {_ANSWER} 2> /dev/null")
    lines.append(f'if [ "$code" -gt 127 ]; then exit {_KILLED}; fi')
    lines.append('exit "$code"')
    return "\n".join(lines)


def _parts(answer: str) -> dict[str, str]:
    sections = re.split(rf"^{re.escape(_MARK)}", answer, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        name, _, text = section.partition("\n")
        found[name] = text.removesuffix("\n")
    return found
