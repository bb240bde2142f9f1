"""Twins: ruff's S rules are Bandit's B rules, so one fault comes as two findings."""

from __future__ import annotations

from collections.abc import Iterable

from ci.findings.severity import of_python_rule
from ci.values import Finding

__all__ = ["without_twins"]


def without_twins(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings less each of Bandit's that ruff reports on the same line, in their order.

    The one that stays takes the higher of the two severities.
    """
    findings = tuple(findings)
    by_fault: dict[tuple[str, str, int | None], Finding] = {}
    for finding in findings:
        key = _fault(finding)
        if key and finding.scanner == "bandit":
            known = by_fault.get(key)
            if known is None or finding.severity.rank > known.severity.rank:
                by_fault[key] = finding
    twinned = {_fault(f) for f in findings if f.scanner == "ruff"} - {None}
    return tuple(
        _worse_of(finding, by_fault)
        for finding in findings
        if finding.scanner != "bandit" or _fault(finding) not in twinned
    )


def _fault(finding: Finding) -> tuple[str, str, int | None] | None:
    if finding.place is None or of_python_rule(finding.rule) is None:
        return None
    return finding.rule[1:], finding.place.path, finding.place.line


def _worse_of(finding: Finding, by_fault: dict[tuple[str, str, int | None], Finding]) -> Finding:
    key = _fault(finding)
    twin = by_fault.get(key) if key and finding.scanner == "ruff" else None
    if twin is None or twin.severity.rank <= finding.severity.rank:
        return finding
    return finding.model_copy(update={"severity": twin.severity})
