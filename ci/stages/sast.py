"""The sast stage: ruff's S rules and Bandit over all Python code, each proven on a planted fault.

Suppressions beside the line (``noqa``, ``nosec``) count, for both tools: whoever reviews the line
sees them. Tools' configuration files in the repository do not, as they can switch a rule off for
all that comes; waivers in ci.toml do.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TypeAlias

import dagger

from ci.errors import StageErrored, StageSkipped
from ci.findings import sarif
from ci.findings.report import ScanReport
from ci.findings.twins import without_twins
from ci.stages.batch import REPORT, Command, Ended, batch
from ci.stages.proof import PYTHON, require, with_sample
from ci.stages.python_environment import SOURCE, with_tools
from ci.stages.scanning import VENDORED, texts, told, unread
from ci.stages.tools import BANDIT, RUFF
from ci.values import Evidence, Finding, Output, Scanner, Status

__all__ = ["sast"]

#: Number of the rule, path and line.
Fault: TypeAlias = tuple[str, str, int | None]

_PLANTED = "/planted"
#: ``assert`` is what tests are made of.
_ASSERT = frozenset({"S101", "B101"})
#: Takes the place of the tools' own lists of folders to leave out, and matches nothing.
_NOTHING = ".towpath-nothing"
_RUFF = ["ruff", "check", "--isolated", "--no-cache", f"--exclude={_NOTHING}",
         "--no-respect-gitignore", "--select=S", "--target-version=py314"]  # fmt: skip
_SARIF: Mapping[str, list[str]] = {
    "ruff": [*_RUFF, "--exit-zero", "--output-format=sarif", f"--output-file={REPORT}", "."],
    "bandit": ["bandit", "--recursive", ".", "--quiet", "--exit-zero", "--ini=/dev/null",
               f"--exclude=/{_NOTHING}", "--format=sarif", f"--output={REPORT}"],
}  # fmt: skip
_COMMANDS: Mapping[str, Command] = {
    "ruff": Command(args=_SARIF["ruff"], workdir=SOURCE),
    "bandit": Command(args=_SARIF["bandit"], workdir=SOURCE),
    "ruff-files": Command(args=[*_RUFF, "--show-files", "."], workdir=SOURCE),
    "ruff-all": Command(args=[*_SARIF["ruff"], "--ignore-noqa"], workdir=SOURCE),
    "bandit-all": Command(args=[*_SARIF["bandit"], "--ignore-nosec"], workdir=SOURCE),
    "ruff-planted": Command(args=_SARIF["ruff"], workdir=_PLANTED),
    "bandit-planted": Command(args=_SARIF["bandit"], workdir=_PLANTED),
}


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
    tools = with_sample(with_tools(RUFF, BANDIT), _PLANTED, PYTHON)
    ended = await batch(tools.with_mounted_directory(SOURCE, code), _COMMANDS)
    _check_files(ended, files)
    ruff, bandit = _parse(ended["ruff"]), _parse(ended["bandit"])
    accepted = _suppressed(ruff, ended["ruff-all"]) | _suppressed(bandit, ended["bandit-all"])
    if counted := _counted((ruff, bandit), accepted):
        sources = await texts(code, counted)
        ruff, bandit = _parse(ended["ruff"], sources), _parse(ended["bandit"], sources)
    findings = (
        *without_twins(_counted((ruff, bandit), accepted)),
        # What ruff cannot read is no Python of any version; Bandit reads that of its own only.
        *unread("ruff", ruff.problems),
    )
    return Output(
        evidence=Evidence(
            stage="sast",
            status=Status.PASSED,
            summary=told(findings, f"{len(files)} Python file{'s' * (len(files) != 1)}"),
            findings=findings,
            scanners=tuple(_proven(r, ended[f"{r.scanner}-planted"]) for r in (ruff, bandit)),
            log="\n".join(f"not read by bandit: {each}" for each in bandit.problems),
        ),
        reports={f"{name}.sarif": ended[name].report for name in ("ruff", "bandit")},
    )


def _parse(ended: Ended, sources: Mapping[str, str] | None = None) -> ScanReport:
    """The report of a tool; fingerprints are of the lines in ``sources``."""
    name = ended.name.partition("-")[0]
    return sarif.parse(ended.check(0).report, scanner=name, root=SOURCE, sources=sources or {})


def _counted(reports: Iterable[ScanReport], accepted: Collection[Fault]) -> list[Finding]:
    found = [finding for report in reports for finding in report.findings]
    return [f for f in found if _fault(f) not in accepted and not _is_test(f)]


def _proven(report: ScanReport, planted: Ended) -> Scanner:
    found = {finding.rule[1:] for finding in _parse(planted).findings}
    proof = require(found, PYTHON, scanner=report.scanner)
    version = report.version.removeprefix(report.scanner).strip()
    return Scanner(name=report.scanner, version=version, proven=True, proof=proof)


def _suppressed(report: ScanReport, everything: Ended) -> set[Fault]:
    """What a comment beside the line accepts, so that its twin of the other tool is accepted."""
    return {_fault(f) for f in _parse(everything).findings} - {_fault(f) for f in report.findings}


def _fault(finding: Finding) -> Fault:
    """Alike for ruff's S307 and Bandit's B307 of one line."""
    place = finding.place
    return finding.rule[1:], place.path if place else "", place.line if place else None


def _check_files(ended: Mapping[str, Ended], files: frozenset[str]) -> None:
    """Raise unless both tools looked at every file."""
    shown = ended["ruff-files"].check(0).stdout.splitlines()
    properties = json.loads(ended["bandit"].report)["runs"][0].get("properties", {})
    seen = {
        "ruff": {path.removeprefix(f"{SOURCE}/") for path in shown},
        "bandit": {path.removeprefix("./") for path in properties.get("metrics", {})},
    }
    for name, paths in seen.items():
        if missed := sorted(files - paths):
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
