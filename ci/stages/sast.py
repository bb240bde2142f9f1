"""The sast stage: ruff's S rules and Bandit over all Python code, each proven on a planted fault.

Suppressions beside the line (``noqa``, ``nosec``) count, for both tools: whoever reviews the line
sees them. Tools' configuration files in the repository do not, as they can switch a rule off for
all that comes; waivers in ci.toml do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings import sarif
from ci.findings.report import ScanReport
from ci.findings.twins import without_twins
from ci.stages.proof import PYTHON, require, with_sample
from ci.stages.python_environment import SOURCE, base, run, with_tools
from ci.stages.scanning import VENDORED, texts, told, unread
from ci.stages.tools import BANDIT, RUFF
from ci.values import Evidence, Finding, Output, Scanner, Status

__all__ = ["sast"]

_PLANTED = "/planted"
_REPORT = "/tmp/report.sarif"  # noqa: S108 - in the container
#: ``assert`` is what tests are made of.
_ASSERT = frozenset({"S101", "B101"})
#: Takes the place of the tools' own lists of folders to leave out, and matches nothing.
_NOTHING = ".towpath-nothing"
_RUFF = ["ruff", "check", "--isolated", "--no-cache", f"--exclude={_NOTHING}",
         "--no-respect-gitignore", "--select=S", "--target-version=py314"]  # fmt: skip
_RUFF_SARIF = [*_RUFF, "--exit-zero", "--output-format=sarif", f"--output-file={_REPORT}", "."]
_BANDIT_SARIF = ["bandit", "--recursive", ".", "--quiet", "--exit-zero", "--ini=/dev/null",
                 f"--exclude=/{_NOTHING}", "--format=sarif", f"--output={_REPORT}"]  # fmt: skip


@dataclass(frozen=True)
class _Scan:
    """What one tool reported of one folder."""

    report: ScanReport
    #: SARIF.
    text: str


async def sast(source: dagger.Directory) -> Output[None]:
    """Scan the Python code for weaknesses; what counts is the gate's to say.

    Raises:
        StageSkipped: there is no Python file.
        StageErrored: a scanner crashed, left files out, or missed a planted fault.
    """
    code = source.filter(include=["**/*.py"], exclude=VENDORED)
    files = frozenset(await code.glob("**/*.py"))
    if not files:
        raise StageSkipped("no Python files", expected="*.py outside of installed packages")
    tools = with_tools(base(), RUFF, BANDIT)
    planted = with_sample(tools, _PLANTED, PYTHON).with_workdir(_PLANTED)
    container = tools.with_mounted_directory(SOURCE, code).with_workdir(SOURCE)

    ruff = await _scan(container, "ruff", _RUFF_SARIF, code)
    seen = (await run(container, [*_RUFF, "--show-files", "."], accept=(0,))).stdout
    _complete("ruff", {line.removeprefix(f"{SOURCE}/") for line in seen.splitlines()}, files)

    bandit = await _scan(container, "bandit", _BANDIT_SARIF, code)
    metrics = json.loads(bandit.text)["runs"][0].get("properties", {}).get("metrics", {})
    _complete("bandit", {path.removeprefix("./") for path in metrics}, files)

    scanners = []
    for scan, command in ((ruff, _RUFF_SARIF), (bandit, _BANDIT_SARIF)):
        name = scan.report.scanner
        found = (await _scan(planted, name, command)).report.findings
        proof = require({finding.rule[1:] for finding in found}, PYTHON, scanner=name)
        version = scan.report.version.removeprefix(name).strip()
        scanners.append(Scanner(name=name, version=version, proven=True, proof=proof))
    accepted = await _suppressed(container, ruff, [*_RUFF_SARIF, "--ignore-noqa"])
    accepted |= await _suppressed(container, bandit, [*_BANDIT_SARIF, "--ignore-nosec"])
    both = [f for s in (ruff, bandit) for f in s.report.findings]
    findings = (
        *without_twins(f for f in both if _fault(f) not in accepted and not _is_test(f)),
        # What ruff cannot read is no Python of any version; Bandit reads that of its own only.
        *unread("ruff", ruff.report.problems),
    )
    return Output(
        evidence=Evidence(
            stage="sast",
            status=Status.PASSED,
            summary=told(findings, f"{len(files)} Python file{'s' * (len(files) != 1)}"),
            findings=findings,
            scanners=tuple(scanners),
            log="\n".join(f"not read by bandit: {each}" for each in bandit.report.problems),
        ),
        reports={"ruff.sarif": ruff.text, "bandit.sarif": bandit.text},
    )


async def _scan(
    container: dagger.Container, name: str, command: list[str], code: dagger.Directory | None = None
) -> _Scan:
    """Run a tool that writes SARIF to ``_REPORT``; fingerprints are of the lines in ``code``."""
    ran = await run(container, command, accept=(0,))
    text = await ran.container.file(_REPORT).contents()
    report = sarif.parse(text, scanner=name, root=SOURCE)
    if code and report.findings:
        sources = await texts(code, report.findings)
        report = sarif.parse(text, scanner=name, root=SOURCE, sources=sources)
    return _Scan(report, text)


async def _suppressed(
    container: dagger.Container, scan: _Scan, command: list[str]
) -> set[tuple[str, str, int | None]]:
    """What a comment beside the line accepts, so that its twin of the other tool is accepted."""
    everything = (await _scan(container, scan.report.scanner, command)).report.findings
    return {_fault(f) for f in everything} - {_fault(f) for f in scan.report.findings}


def _fault(finding: Finding) -> tuple[str, str, int | None]:
    """Alike for ruff's S307 and Bandit's B307 of one line."""
    place = finding.place
    return finding.rule[1:], place.path if place else "", place.line if place else None


def _complete(name: str, seen: set[str], files: frozenset[str]) -> None:
    if missed := sorted(files - seen):
        raise StageErrored(
            f"{name} left {len(missed)} of {len(files)} Python files out",
            got=", ".join(missed[:10]),
            expected="every file looked at",
        )


def _is_test(finding: Finding) -> bool:
    """Whether it is about an assertion in a test."""
    if finding.rule not in _ASSERT or finding.place is None:
        return False
    path = PurePosixPath(finding.place.path)
    named = path.name.startswith("test_") or path.stem.endswith("_test")
    return named or path.name == "conftest.py" or bool({"test", "tests"} & {*path.parts[:-1]})
