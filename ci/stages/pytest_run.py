"""One run of pytest: its exit codes told apart, its JUnit report read."""

from __future__ import annotations

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings import junit
from ci.stages.python_environment import Ran, end_of
from ci.values import Evidence, Status, Tests

__all__ = ["REPORTS", "evidence_of", "pytest"]

REPORTS = "/reports"
_JUNIT = f"{REPORTS}/junit.xml"
#: https://docs.pytest.org/en/stable/reference/exit-codes.html
_FAILED, _NO_TESTS = 1, 5
#: Of timeout(1), when it had to end the command; and when that took SIGKILL.
_TIMED_OUT = (124, 137)
_TAIL = 8000
#: Seconds after SIGABRT.
_GRACE = 10


async def pytest(
    container: dagger.Container, command: list[str], arguments: list[str], *, limit: int
) -> Ran:
    """Run it, whatever comes out; the container after it has the reports.

    Args:
        container: What it runs in.
        command: Up to ``pytest`` itself.
        arguments: Of pytest, beside those for the reports.
        limit: Seconds that the whole suite may take. Then SIGABRT has pytest's faulthandler show
            where each thread is, so that a suite that hangs tells by which test.

    Raises:
        StageSkipped: it found no tests.
        StageErrored: it could not run them (a usage error, an internal one, a broken conftest),
            did not end within ``limit``, or was killed.
    """
    args = [
        "timeout", "--signal=ABRT", f"--kill-after={_GRACE}", str(limit), *command,
        "-p", "no:cacheprovider", f"--junitxml={_JUNIT}", *arguments,
    ]  # fmt: skip
    prepared = container.with_new_file(f"{REPORTS}/.keep", "")
    ran = await end_of(prepared, args, tool="pytest")
    if ran.code in _TIMED_OUT:
        raise StageErrored(
            "pytest",
            got=f"no end within {limit} s\n{ran.log.strip()}",
            expected="a suite that ends",
            hint="the stacks above show where it hangs",
        )
    if ran.code == _NO_TESTS:
        raise StageSkipped("pytest found no tests")
    if ran.code not in (0, _FAILED):
        # Collection errors end with 2 and a report that names them: the code is at fault then.
        if await ran.container.exists(_JUNIT) and (await _tests(ran)).counts.total:
            return ran
        raise StageErrored(
            "pytest", got=f"exit code {ran.code}\n{ran.log.strip()}", expected="tests that can run"
        )
    return ran


async def evidence_of(stage: str, ran: Ran) -> tuple[Evidence, dict[str, str]]:
    """The evidence of a run of pytest, and its report."""
    tests = await _tests(ran)
    counts = tests.counts
    failed = bool(ran.code)
    said = [f"{counts.passed} test{'s' * (counts.passed != 1)} passed"]
    said += [f"{counts.failed} failed"] if counts.failed else []
    said += [f"{counts.errored} errored"] if counts.errored else []
    said += [f"{counts.skipped} skipped"] if counts.skipped else []
    evidence = Evidence(
        stage=stage,
        status=Status.FAILED if failed else Status.PASSED,
        summary=", ".join(said),
        tests=tests,
        log=ran.log[-_TAIL:] if failed else "",
    )
    return evidence, {"junit.xml": await ran.container.file(_JUNIT).contents()}


async def _tests(ran: Ran) -> Tests:
    return junit.parse(await ran.container.file(_JUNIT).contents())
